"""The content of a training checkpoint, written and read with Orbax: parameters, optimizer, step and position.

`CheckpointSaver` writes in a background thread. `adopt` makes another run's checkpoint the first one of this run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.contract.digests import DIGEST_PREFIX
from tunix_rt.errors import InvalidArtifact
from tunix_rt.trainer.engine.checkpoints import DATA, CheckpointDirectory, StoredCheckpoint
from tunix_rt.trainer.engine.step import TrainState
from tunix_rt.trainer.job import InitialCheckpoint
from tunix_rt.trainer.messages import CheckpointWritten

_STATE = "state"
POSITION = "position.json"


@dataclass(frozen=True)
class Position:
    """The state of a run besides its arrays.

    ``data``: position of the batch stream. ``seed``: root of all randomness (a step's keys are folded from it and the
    step number, so there is no other generator state). ``unreported``: metric rows not yet acknowledged by the
    registry. ``watch``: state of the `DivergenceWatch`.
    """

    data: dict[str, Any]
    seed: int
    unreported: tuple[dict[str, Any], ...] = ()
    watch: dict[str, Any] = field(default_factory=dict)


class Writing(Protocol):
    """A running write of arrays."""

    def result(self) -> None:
        """Wait until the parts of all processes are on disk. Raises the error of a failed write."""


def write_state(directory: Path, state: TrainState, position: Position) -> None:
    """Write ``state`` and ``position`` into the empty ``directory``. Blocks until everything is on disk."""
    write_position(directory, position)
    begin_arrays(directory, state).result()


def write_position(directory: Path, position: Position) -> None:
    """Write ``position`` into ``directory``."""
    document = {"data": position.data, "seed": position.seed, "unreported": list(position.unreported)}
    document["watch"] = position.watch
    (directory / POSITION).write_text(json.dumps(document, sort_keys=True))


def begin_arrays(directory: Path, state: TrainState) -> Writing:
    """Start writing this process's part of ``state`` into ``directory``, which all processes share.

    Processes that train together synchronise here: all must call it between the same two steps.
    """
    _quiet()
    writing: Writing = ocp.save_async(directory / _STATE, _named_leaves(state))
    return writing


def read_position(directory: Path) -> Position:
    """The position in ``directory``."""
    document = json.loads((directory / POSITION).read_bytes())
    return Position(document["data"], int(document["seed"]), tuple(document["unreported"]), document.get("watch", {}))


def read_state(directory: Path, like: TrainState) -> tuple[TrainState, Position]:
    """The state and position in ``directory``. ``like`` gives structure, shapes, dtypes and placement of the state.

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
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(parameters):
        total.update(np.ascontiguousarray(leaf).tobytes())
    return DIGEST_PREFIX + total.hexdigest()


def _named_leaves(state: TrainState) -> dict[str, jax.Array]:
    """Leaves by path, so the layout does not depend on the classes that hold them."""
    paths, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in paths}


def _quiet() -> None:
    # Orbax logs every save through absl.
    logging.getLogger("absl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="Sharding info not provided", category=UserWarning)


class CheckpointSaver:
    """Saves in a background thread, one save at a time. A background error is raised by the next `save` or `wait`.

    Processes that train together each write their part of the arrays. The one that ``leads`` writes the rest, commits
    and calls ``announce``.
    """

    def __init__(
        self, directory: CheckpointDirectory, announce: Callable[[CheckpointWritten], None], *, leads: bool = True
    ) -> None:
        self._directory, self._announce, self._leads = directory, announce, leads
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, step: int, state: TrainState, position: Position, *, eval_loss: float | None = None) -> None:
        """Start a save, after waiting for an earlier one. ``eval_loss``: held-out loss of the state, if measured."""
        self.wait()
        snapshot = jax.block_until_ready(_copy(state))  # type: ignore[no-untyped-call]
        fill = self._filling(step, snapshot, position)
        self._pending = self._thread.submit(self._write, step, fill, eval_loss)

    def _filling(self, step: int, snapshot: TrainState, position: Position) -> Callable[[Path], None]:
        """The background part: fills the directory of ``step``."""
        if jax.process_count() == 1:
            return lambda directory: write_state(directory, snapshot, position)
        directory = self._directory.staging(step)
        if self._leads:
            directory.mkdir(parents=True, exist_ok=True)
            write_position(directory, position)
        # Started in the foreground: it synchronises with the other processes between two steps.
        writing = begin_arrays(directory, snapshot)
        return lambda _: writing.result()

    def wait(self) -> None:
        """Wait for the running save. Raises its error."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, step: int, fill: Callable[[Path], None], eval_loss: float | None) -> None:
        if not self._leads:
            fill(self._directory.staging(step))
            return
        stored, removed = self._directory.write(step, fill, eval_loss=eval_loss)
        self._announce(CheckpointWritten(step, stored.uri, stored.digest, stored.size_bytes, tuple(removed)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)


@jax.jit
def _copy(state: TrainState) -> TrainState:
    # A copy, because the next step donates the state's buffers.
    copied: TrainState = jax.tree.map(jnp.copy, state)
    return copied


def adopt(
    source: InitialCheckpoint, store: ArtifactStore, checkpoints: CheckpointDirectory
) -> tuple[StoredCheckpoint, list[int]]:
    """Commit ``source``, a checkpoint of another run, to ``checkpoints``, as `CheckpointDirectory.write` does.

    It is verified against its digest. Its unreported metric rows are dropped: they belong to the other run, which may
    now remove its checkpoint. Raises `InvalidArtifact` when it is missing or has changed.
    """
    try:
        data = store.local_directory(f"{source.uri}/{DATA}", source.digest)
        return checkpoints.write(source.step, lambda directory: _take_over(data, directory))
    except (InvalidArtifact, FileNotFoundError) as error:
        raise InvalidArtifact(
            f"this run starts from the checkpoint of step {source.step} of run {source.run_id}, which is gone or has "
            f"changed ({error}); a run keeps save_total_limit checkpoints"
        ) from error


def _take_over(data: Path, directory: Path) -> None:
    for path in sorted(data.rglob("*")):
        target = directory / path.relative_to(data)
        if path.is_file() and target != directory / POSITION:
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(path, target)
    write_position(directory, dataclasses.replace(read_position(data), unreported=()))


def _link_or_copy(path: Path, target: Path) -> None:
    # Committed files are never modified, so a link is as good as a copy.
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
