"""Tensors of a Hugging Face directory: one ``model.safetensors``, or the shards listed in its index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.weight_map import Array

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_FLOATS = ("F64", "F32", "F16", "BF16")


class TensorFiles:
    """Open tensors by name."""

    def __init__(self, files: dict[str, Any]) -> None:
        self._files = files

    @property
    def names(self) -> list[str]:
        return list(self._files)

    def read(self, name: str) -> Array:
        """One tensor as float32. Raises `InvalidArtifact` for a non-float dtype."""
        handle = self._files[name]
        kind = handle.get_slice(name).get_dtype()
        if kind not in _FLOATS:
            raise InvalidArtifact(f"tensor {name} has type {kind}; supported: {', '.join(_FLOATS)}")
        # Through JAX: NumPy has no bfloat16.
        return np.asarray(jnp.asarray(handle.get_tensor(name), jnp.float32))


@contextmanager
def open_tensors(directory: Path) -> Iterator[TensorFiles]:
    """Open every tensor file of ``directory``. Raises `InvalidArtifact` naming a missing, truncated or inconsistent
    file."""
    with ExitStack() as stack:
        opened: dict[str, Any] = {}
        for path in _shards(directory):
            try:
                handle = stack.enter_context(safe_open(str(path), framework="flax"))
            except (SafetensorError, OSError) as error:
                raise InvalidArtifact(f"{path} cannot be read: {error}") from error
            for name in handle.keys():  # noqa: SIM118 (not a mapping)
                if name in opened:
                    raise InvalidArtifact(f"tensor {name} is in two files of {directory}")
                opened[name] = handle
        yield TensorFiles(opened)


def _shards(directory: Path) -> list[Path]:
    single, index = directory / _SINGLE, directory / _INDEX
    if single.is_file():
        return [single]
    if not index.is_file():
        raise InvalidArtifact(f"{directory} has neither {_SINGLE} nor {_INDEX}")
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise InvalidArtifact(f"{index} is not a safetensors index: {error!r}") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (directory / name).is_file():
            raise InvalidArtifact(f"{index} names {name!r}, which is not a file beside it")
    return sorted(directory / name for name in names)


def write_tensors(tensors: dict[str, Array], path: Path) -> None:
    """Write one safetensors file with the metadata that Transformers expects."""
    save_file(tensors, str(path), metadata={"format": "pt"})
