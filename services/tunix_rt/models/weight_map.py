"""Which tensor of a file is which parameter of the decoder: one table per family, for Hugging Face and GGUF names
alike.

Owns names and layouts. Reads and writes no files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.config import ModelConfig

Array = NDArray[np.float32]
Parameters = dict[str, Array]


@dataclass(frozen=True)
class Row:
    """One parameter. ``{layer}`` in a name makes it a stack over all layers; ``transposed`` files hold [out, in]
    where we hold [in, out].

    ``rotary`` names whose heads llama.cpp interleaved when it converted the tensor to GGUF.
    """

    parameter: str
    hf: str
    gguf: str
    transposed: bool = False
    rotary: Literal["query", "key"] | None = None


_LLAMA = (
    Row("embedding", "model.embed_tokens.weight", "token_embd.weight"),
    Row("blocks.input_norm.scale", "model.layers.{layer}.input_layernorm.weight", "blk.{layer}.attn_norm.weight"),
    Row(
        "blocks.attention.q.kernel",
        "model.layers.{layer}.self_attn.q_proj.weight",
        "blk.{layer}.attn_q.weight",
        True,
        "query",
    ),
    Row(
        "blocks.attention.k.kernel",
        "model.layers.{layer}.self_attn.k_proj.weight",
        "blk.{layer}.attn_k.weight",
        True,
        "key",
    ),
    Row("blocks.attention.v.kernel", "model.layers.{layer}.self_attn.v_proj.weight", "blk.{layer}.attn_v.weight", True),
    Row(
        "blocks.attention.o.kernel",
        "model.layers.{layer}.self_attn.o_proj.weight",
        "blk.{layer}.attn_output.weight",
        True,
    ),
    Row(
        "blocks.post_attention_norm.scale",
        "model.layers.{layer}.post_attention_layernorm.weight",
        "blk.{layer}.ffn_norm.weight",
    ),
    Row("blocks.mlp.gate.kernel", "model.layers.{layer}.mlp.gate_proj.weight", "blk.{layer}.ffn_gate.weight", True),
    Row("blocks.mlp.up.kernel", "model.layers.{layer}.mlp.up_proj.weight", "blk.{layer}.ffn_up.weight", True),
    Row("blocks.mlp.down.kernel", "model.layers.{layer}.mlp.down_proj.weight", "blk.{layer}.ffn_down.weight", True),
    Row("norm.scale", "model.norm.weight", "output_norm.weight"),
    Row("head", "lm_head.weight", "output.weight"),
)
FAMILIES: Mapping[str, tuple[Row, ...]] = {"llama": _LLAMA}

# Buffers that old checkpoints carry and that follow from the config.
_DERIVED_HF = "self_attn.rotary_emb.inv_freq"


def rows_of(config: ModelConfig) -> tuple[Row, ...]:
    """The rows that this config's decoder has: no output head of its own where embeddings are tied."""
    return tuple(row for row in FAMILIES[config.family] if not (row.parameter == "head" and config.tie_word_embeddings))


def _names(template: str, config: ModelConfig) -> list[str]:
    if "{layer}" not in template:
        return [template]
    return [template.format(layer=layer) for layer in range(config.num_hidden_layers)]


def _deinterleave(tensor: Array, heads: int) -> Array:
    """[out, in] of rotary heads, from llama.cpp's pairs side by side back to Hugging Face's halves."""
    out, width = tensor.shape
    return tensor.reshape(heads, out // heads // 2, 2, width).swapaxes(1, 2).reshape(out, width)


def to_parameters(
    config: ModelConfig, available: Iterable[str], read: Callable[[str], Array], *, layout: Literal["hf", "gguf"]
) -> Parameters:
    """Every parameter of the decoder, read tensor by tensor as float32.

    Raises `InvalidArtifact` naming each tensor that is missing, or that the decoder has no place for.
    """
    rows = rows_of(config)
    template = {row.parameter: getattr(row, layout) for row in rows}
    wanted = {name for row in rows for name in _names(template[row.parameter], config)}
    present = {name for name in available if not (layout == "hf" and name.endswith(_DERIVED_HF))}
    surplus = sorted(present - wanted)
    if surplus == ["lm_head.weight"] and config.tie_word_embeddings and wanted <= present:
        if not np.array_equal(read("lm_head.weight"), read("model.embed_tokens.weight")):
            raise InvalidArtifact("lm_head.weight differs from the embedding although tie_word_embeddings is true")
        surplus = []
    problems = [f"missing: {_listed(missing)}" for missing in [sorted(wanted - present)] if missing]
    problems += [f"not known to a {config.family} model of this config: {_listed(surplus)}"] if surplus else []
    if problems:
        raise InvalidArtifact(f"the model's tensors do not match its config; {'; '.join(problems)}")

    def one(row: Row, name: str) -> Array:
        tensor = read(name)
        if layout == "gguf" and row.rotary is not None:
            heads = config.num_attention_heads if row.rotary == "query" else config.num_key_value_heads
            tensor = _deinterleave(tensor, heads)
        return tensor.T if row.transposed else tensor

    result: Parameters = {}
    for row in rows:
        tensors = [one(row, name) for name in _names(template[row.parameter], config)]
        result[row.parameter] = np.stack(tensors) if "{layer}" in template[row.parameter] else tensors[0]
    return result


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
