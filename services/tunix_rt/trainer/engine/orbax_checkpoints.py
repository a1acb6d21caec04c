"""What a training checkpoint holds, written and read with Orbax.

Parameters, optimizer and step as one tree, the position beside it.

Knows Orbax; knows nothing of where checkpoints are kept or when they are taken.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from tunix_rt.contract.digests import DIGEST_PREFIX
from tunix_rt.errors import InvalidArtifact
from tunix_rt.trainer.engine.step import TrainState

_STATE = "state"
POSITION = "position.json"


@dataclass(frozen=True)
class Position:
    """Where a run stands besides its arrays.

    ``data`` is the batch stream's position; ``seed`` the root of all randomness (what a step draws is folded from it
    and the step number, so the generator has no other state); ``unreported`` the metric rows that the registry has
    not acknowledged yet; ``watch`` what the `DivergenceWatch` remembers.
    """

    data: dict[str, Any]
    seed: int
    unreported: tuple[dict[str, Any], ...] = ()
    watch: dict[str, Any] = field(default_factory=dict)


class Writing(Protocol):
    """Arrays on their way to disk."""

    def result(self) -> None:
        """Return when the parts of all processes are on disk; raises what went wrong."""


def write_state(directory: Path, state: TrainState, position: Position) -> None:
    """Write ``state`` and ``position`` into the empty ``directory``; blocks until all is on disk."""
    write_position(directory, position)
    begin_arrays(directory, state).result()


def write_position(directory: Path, position: Position) -> None:
    """Write ``position`` into ``directory``."""
    document = {"data": position.data, "seed": position.seed, "unreported": list(position.unreported)}
    document["watch"] = position.watch
    (directory / POSITION).write_text(json.dumps(document, sort_keys=True))


def begin_arrays(directory: Path, state: TrainState) -> Writing:
    """Begin to write this process's part of ``state`` into ``directory``, which all processes see.

    Where several train together they meet here on their devices: all must call it between the same two steps.
    """
    _quiet()
    writing: Writing = ocp.save_async(directory / _STATE, _named_leaves(state))
    return writing


def read_position(directory: Path) -> Position:
    """The position in ``directory``."""
    document = json.loads((directory / POSITION).read_bytes())
    return Position(document["data"], int(document["seed"]), tuple(document["unreported"]), document.get("watch", {}))


def read_state(directory: Path, like: TrainState) -> tuple[TrainState, Position]:
    """The state and position in ``directory``; the state has the structure, shapes, dtypes and placement of ``like``.

    Raises `InvalidArtifact` when the arrays do not fit ``like``.
    """
    position = read_position(directory)
    wanted = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)  # type: ignore[no-untyped-call]
        for name, leaf in _named_leaves(like).items()
    }
    _quiet()
    try:
        found = ocp.load(directory / _STATE, wanted)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InvalidArtifact(f"the checkpoint's arrays do not fit this model: {error}") from error
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted]), position


def parameters_digest(parameters: Any) -> str:
    """sha256 over the bytes of every parameter in tree order: equal digests mean bit-identical parameters."""
    import hashlib

    total = hashlib.sha256()
    for leaf in jax.tree.leaves(parameters):
        total.update(np.ascontiguousarray(leaf).tobytes())
    return DIGEST_PREFIX + total.hexdigest()


def _named_leaves(state: TrainState) -> dict[str, jax.Array]:
    """Leaves by their path: a layout that does not change with the classes that hold them."""
    paths, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in paths}


def _quiet() -> None:
    # Orbax narrates every save through absl; a run's log is for people.
    logging.getLogger("absl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="Sharding info not provided", category=UserWarning)
