"""From a file's tensors to the decoder's parameters and back, by the family's table.

Owns what counts as missing or surplus, and layouts. Reads and writes no files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.weight_tables import BASE_PREFIXES, DERIVED, FAMILIES, LINEAR_NAMES, Row

__all__ = ["FAMILIES", "LINEAR_NAMES", "Array", "Parameters", "rows_of", "to_hf_tensors", "to_parameters"]

Array = NDArray[np.float32]
Parameters = dict[str, Array]
_HEAD = "lm_head.weight"


def rows_of(config: ModelConfig) -> tuple[Row, ...]:
    """The rows that this config's decoder has: no output head of its own where embeddings are tied, no bias where the
    config has none."""
    return tuple(row for row in FAMILIES[config.family] if row.when is None or row.when(config))


def _names(template: str, config: ModelConfig) -> list[str]:
    if "{layer}" not in template:
        return [template]
    return [template.format(layer=layer) for layer in range(config.num_hidden_layers)]


def _deinterleave(tensor: Array, heads: int) -> Array:
    """[out, in] or [out] of rotary heads, from llama.cpp's pairs side by side back to Hugging Face's halves."""
    pairs = tensor.reshape(heads, tensor.shape[0] // heads // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(tensor.shape)


def to_parameters(
    config: ModelConfig, available: Iterable[str], read: Callable[[str], Array], *, layout: Literal["hf", "gguf"]
) -> Parameters:
    """Every parameter of the decoder, read tensor by tensor as float32.

    Raises `InvalidArtifact` naming each tensor that is missing, or that the decoder has no place for.
    """
    rows = rows_of(config)
    template = {row.parameter: getattr(row, layout) for row in rows}
    wanted = {name for row in rows for name in _names(template[row.parameter], config)}
    stored = _stored_names(config.family, available) if layout == "hf" else {name: name for name in available}
    surplus = sorted(stored.keys() - wanted)
    if surplus == [_HEAD] and config.tie_word_embeddings and wanted <= stored.keys():
        if not np.array_equal(read(stored[_HEAD]), read(stored[template["embedding"]])):
            raise InvalidArtifact(f"{_HEAD} differs from the embedding although tie_word_embeddings is true")
        surplus = []
    problems = [f"missing: {_listed(missing)}" for missing in [sorted(wanted - stored.keys())] if missing]
    problems += [f"not known to a {config.family} model of this config: {_listed(surplus)}"] if surplus else []
    if problems:
        raise InvalidArtifact(f"the model's tensors do not match its config; {'; '.join(problems)}")

    def one(row: Row, name: str) -> Array:
        tensor = read(stored[name])
        if layout == "gguf" and row.interleaved is not None:
            heads = config.num_attention_heads if row.interleaved == "query" else config.num_key_value_heads
            tensor = _deinterleave(tensor, heads)
        return tensor.T if row.transposed else tensor

    result: Parameters = {}
    for row in rows:
        tensors = [one(row, name) for name in _names(template[row.parameter], config)]
        result[row.parameter] = np.stack(tensors) if "{layer}" in template[row.parameter] else tensors[0]
    return result


def _stored_names(family: str, available: Iterable[str]) -> dict[str, str]:
    """Full Hugging Face name → name in the file, without the buffers that follow from the config."""
    prefix = BASE_PREFIXES[family]
    kept = [name for name in available if not name.endswith(DERIVED[family])]
    if any(name.startswith(prefix) for name in kept):
        return {name: name for name in kept}
    return {name if name == _HEAD else prefix + name: name for name in kept}


def to_hf_tensors(config: ModelConfig, parameters: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors of a Hugging Face checkpoint, by name, from the decoder's parameters."""
    tensors: dict[str, Array] = {}
    for row in rows_of(config):
        value = parameters[row.parameter]
        layers = list(value) if "{layer}" in row.hf else [value]
        for name, tensor in zip(_names(row.hf, config), layers, strict=True):
            tensors[name] = np.ascontiguousarray(tensor.T if row.transposed else tensor)
    return tensors


def _listed(names: list[str], most: int = 8) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
