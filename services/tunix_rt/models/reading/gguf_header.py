"""The header of a GGUF file, little-endian, versions 2 and 3: metadata and the table of tensors.

Every count and length is compared with the bytes that are left before anything is built from it.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.reading.bounds import MAX_GGUF_HEADER_BYTES, MAX_METADATA_KEYS, MAX_TENSORS

# Supported tensor types by number: name, values in a block, bytes of a block.
TENSOR_TYPES: Final[Mapping[int, tuple[str, int, int]]] = MappingProxyType(
    {
        0: ("F32", 1, 4),
        1: ("F16", 1, 2),
        2: ("Q4_0", 32, 18),
        3: ("Q4_1", 32, 20),
        6: ("Q5_0", 32, 22),
        7: ("Q5_1", 32, 24),
        8: ("Q8_0", 32, 34),
        12: ("Q4_K", 256, 144),
        13: ("Q5_K", 256, 176),
        14: ("Q6_K", 256, 210),
        30: ("BF16", 1, 2),
    }
)
_SCALARS: Final = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS: Final = 4
_ALIGNMENT: Final = 32


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is. ``shape``: row-major, in values. ``offset`` and ``size``: bytes of the file."""

    type: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class GGUFHeader:
    """Metadata by key, and tensors by name."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]


def read_header(path: Path) -> GGUFHeader:
    """The header of the file at ``path``. Raises `InvalidArtifact` naming what is wrong with it."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _header(_Cursor(content))
    except (_Malformed, struct.error, OSError, ValueError) as error:  # an empty file is a ValueError
        raise InvalidArtifact(f"{path} is not a readable GGUF file: {error}") from error


class _Malformed(Exception):
    pass


class _Cursor:
    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.at = content, 0
        self.file_size = len(content)
        self.limit = min(self.file_size, MAX_GGUF_HEADER_BYTES)

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > self.limit:
            more = "its header is too large" if end <= self.file_size else "it ends in the middle of its header"
            raise _Malformed(f"{more} (byte {self.at})")
        taken, self.at = self.content[self.at : end], end
        return taken

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise _Malformed(f"unknown type {kind} of a value (byte {self.at})")
        return self.number(_SCALARS[kind])

    def _array(self) -> list[Any]:
        kind, count = self.number("I"), self.number("Q")
        if kind == _ARRAY:
            raise _Malformed("an array of arrays is not supported")
        code = _SCALARS.get(kind)
        least = struct.calcsize("<" + code) if code else 8
        if count > (self.limit - self.at) // least:
            raise _Malformed(f"an array of {count} values is longer than the file")
        if code:
            return list(struct.unpack(f"<{count}{code}", self.take(count * least)))
        return [self.value(kind) for _ in range(count)]


def _header(cursor: _Cursor) -> GGUFHeader:
    if cursor.take(4) != b"GGUF":
        raise _Malformed("it does not begin with GGUF")
    version = cursor.number("I")
    if version not in (2, 3):
        raise _Malformed(f"version {version} is not supported; supported: 2, 3")
    n_tensors, n_keys = cursor.number("Q"), cursor.number("Q")
    if n_tensors > MAX_TENSORS or n_keys > MAX_METADATA_KEYS:
        raise _Malformed(f"it declares {n_tensors} tensors and {n_keys} metadata keys")
    metadata: dict[str, Any] = {}
    for _ in range(n_keys):
        key = cursor.text()
        if key in metadata:
            raise _Malformed(f"the key {key!r} occurs twice")
        metadata[key] = cursor.value(cursor.number("I"))
    raw = [_tensor(cursor) for _ in range(n_tensors)]
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1) or alignment > 1 << 20:
        raise _Malformed(f"general.alignment = {alignment!r} is not a power of two")
    start = -(-cursor.at // alignment) * alignment
    tensors: dict[str, StoredTensor] = {}
    for name, kind, shape, offset in raw:
        if name in tensors:
            raise _Malformed(f"the tensor {name!r} occurs twice")
        tensors[name] = _placed(name, kind, shape, start + offset, cursor.file_size)
    return GGUFHeader(metadata, tensors)


def _tensor(cursor: _Cursor) -> tuple[str, int, tuple[int, ...], int]:
    name, dimensions = cursor.text(), cursor.number("I")
    if not 0 < dimensions <= _MAX_DIMENSIONS:
        raise _Malformed(f"the tensor {name!r} has {dimensions} dimensions")
    shape = struct.unpack(f"<{dimensions}Q", cursor.take(8 * dimensions))
    return name, cursor.number("I"), tuple(reversed(shape)), cursor.number("Q")


def _placed(name: str, kind: int, shape: tuple[int, ...], offset: int, file_size: int) -> StoredTensor:
    if kind not in TENSOR_TYPES:
        supported = ", ".join(found for found, _, _ in TENSOR_TYPES.values())
        raise _Malformed(f"tensor {name} has type {kind}; supported: {supported}")
    name_of_type, values, size_of_block = TENSOR_TYPES[kind]
    if shape[-1] % values:
        raise _Malformed(f"tensor {name} of type {name_of_type} has rows of {shape[-1]} values")
    size = math.prod(shape) // values * size_of_block
    if offset + size > file_size:
        raise _Malformed(f"tensor {name} ends after the file")
    return StoredTensor(name_of_type, shape, offset, size)
