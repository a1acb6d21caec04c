"""Tensors of a GGUF file, memory-mapped; quantised ones are converted to float32 on read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, dequantize

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.reading.gguf_header import StoredTensor
from tunix_rt.models.weight_map import Array


class GGUFTensors:
    """The tensors of the file at ``path`` that ``table``, its header's, names."""

    def __init__(self, path: Path, table: Mapping[str, StoredTensor]) -> None:
        self._path, self._table = path, table
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r")

    @property
    def names(self) -> list[str]:
        return list(self._table)

    def read(self, name: str) -> Array:
        """One tensor as float32; matrices are [out, in]. Raises `InvalidArtifact` when it is not all in the file."""
        tensor = self._table[name]
        stored = self._bytes[tensor.offset : tensor.offset + tensor.size]
        if stored.size != tensor.size:
            raise InvalidArtifact(f"{self._path}: tensor {name} ends after the file")
        rows = stored.reshape(math.prod(tensor.shape[:-1]), -1)
        values = dequantize(rows, GGMLQuantizationType[tensor.type])
        return np.asarray(values, dtype=np.float32).reshape(tensor.shape)
