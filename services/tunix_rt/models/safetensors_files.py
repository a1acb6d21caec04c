"""Tensors in safetensors files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput
from tunix_rt.models.file_names import INDEX, WEIGHTS
from tunix_rt.models.reading.bounds import MAX_HEADER_BYTES, MAX_TENSORS
from tunix_rt.models.weight_map import Array

_FLOATS = ("F64", "F32", "F16", "BF16")
_LENGTH_BYTES = 8


class TensorFiles:
    """Open tensors by name."""

    def __init__(self, files: dict[str, Any]) -> None:
        self._files = files
        self._allowed: int | None = None

    @property
    def names(self) -> list[str]:
        return list(self._files)

    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape in the file's header."""
        return tuple(self._files[name].get_slice(name).get_shape())

    def type_of(self, name: str) -> str:
        """The dtype in the file's header, such as F32."""
        return str(self._files[name].get_slice(name).get_dtype())

    def allow(self, values: int) -> None:
        """From now on at most ``values`` numbers can be read."""
        self._allowed = values

    def described(self, name: str) -> Array:
        """Zeros in the shape of the tensor, which take no memory and are not to be written. Raises `InvalidArtifact`
        for a non-float dtype."""
        part = self._files[name].get_slice(name)
        _check_type(name, part.get_dtype())
        return np.broadcast_to(np.float32(0), tuple(part.get_shape()))

    def read(self, name: str) -> Array:
        """One tensor as float32. Raises `InvalidArtifact` for a non-float dtype, and for more than is allowed."""
        handle = self._files[name]
        part = handle.get_slice(name)
        kind = part.get_dtype()
        _check_type(name, kind)
        if self._allowed is not None:
            self._allowed -= math.prod(part.get_shape())
            if self._allowed < 0:
                raise InvalidArtifact(f"tensor {name} has shape {part.get_shape()}: more than the config allows")
        # Through JAX: NumPy has no bfloat16.
        return np.asarray(jnp.asarray(handle.get_tensor(name), jnp.float32))


def _check_type(name: str, kind: str) -> None:
    if kind not in _FLOATS:
        raise InvalidArtifact(f"tensor {name} has type {kind}; supported: {', '.join(_FLOATS)}")


@contextmanager
def open_tensors(directory: Path, files: Sequence[str]) -> Iterator[TensorFiles]:
    """Open the tensors in ``files`` of ``directory``. Raises `InvalidArtifact` naming a missing, truncated or
    inconsistent file."""
    with ExitStack() as stack:
        opened: dict[str, Any] = {}
        for path in (directory / name for name in files):
            try:
                _check_header(path)
                handle = stack.enter_context(safe_open(str(path), framework="flax"))
            except (SafetensorError, OSError) as error:
                raise InvalidArtifact(f"{path} cannot be read: {error}") from error
            for name in handle.keys():  # noqa: SIM118 (not a mapping)
                if name in opened:
                    raise InvalidArtifact(f"tensor {name:.200} is in two files of {directory}")
                opened[name] = handle
            if len(opened) > MAX_TENSORS:
                raise InvalidArtifact(f"{directory} has more than {MAX_TENSORS} tensors")
        yield TensorFiles(opened)


def _check_header(path: Path) -> None:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    if length > MAX_HEADER_BYTES:
        raise InvalidArtifact(f"{path} has a header of {length} bytes; at most {MAX_HEADER_BYTES} are supported")


def write_tensors(tensors: Mapping[str, Array], directory: Path, *, dtype: str, max_shard_bytes: int) -> None:
    """Write ``tensors`` with weights of type ``dtype`` into ``directory``, as Transformers names the files.

    One ``model.safetensors``, or shards of at most ``max_shard_bytes`` (a larger tensor has a file of its own) with
    their index. Raises `InvalidInput` for a value that ``dtype`` cannot hold.
    """
    kind = jnp.dtype(dtype)
    shards = _shards({name: tensor.size * kind.itemsize for name, tensor in tensors.items()}, max_shard_bytes)
    if len(shards) == 1:
        _write_shard(tensors, shards[0], kind, directory / WEIGHTS)
        return
    files = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for file, names in zip(files, shards, strict=True):
        _write_shard(tensors, names, kind, directory / file)
    size = sum(tensor.size for tensor in tensors.values()) * kind.itemsize
    weight_map = {name: file for file, names in zip(files, shards, strict=True) for name in names}
    index = json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}, indent=2, sort_keys=True)
    (directory / INDEX).write_text(index + "\n", encoding="utf-8")


def _shards(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """Names of ``sizes`` in their order, in groups of at most ``most`` bytes."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > most:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _write_shard(tensors: Mapping[str, Array], names: Sequence[str], kind: np.dtype[Any], path: Path) -> None:
    # The metadata is what Transformers expects.
    save_file({name: as_type(tensors[name], kind, name) for name in names}, str(path), metadata={"format": "pt"})


def as_type(tensor: Array, kind: np.dtype[Any], name: str) -> NDArray[Any]:
    """``tensor`` rounded to ``kind``. Raises `InvalidInput` when a finite value of it is beyond that type."""
    if kind == tensor.dtype:
        return tensor
    with np.errstate(over="ignore"):
        rounded = tensor.astype(kind)
    if not (np.isfinite(rounded.astype(np.float32)) | ~np.isfinite(tensor)).all():
        problem = f"{kind} cannot hold the values of {name}; export the model as bfloat16 or float32"
        raise InvalidInput([FieldViolation("dtype", problem)])
    return rounded
