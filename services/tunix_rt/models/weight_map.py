"""Which tensor of a Hugging Face or GGUF file is which parameter of the decoder: one table per family.

GGUF names are those of the `gguf` package's ``MODEL_TENSORS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.config import ModelConfig

Array = NDArray[np.float32]
Parameters = dict[str, Array]


@dataclass(frozen=True)
class Row:
    """One parameter. ``{layer}`` in a name: one tensor per layer, stacked; ``{expert}``: and per expert of the layer.
    ``transposed``: [out, in] in the file.

    ``interleaved``: which heads llama.cpp interleaves in the GGUF tensor. ``when``: the configs that have the
    parameter; None: all. ``layers``: those that have it; None: all. ``adaptable``, ``converted``: whether adapters, and
    weight formats, apply to a kernel.
    """

    parameter: str
    hf: str
    gguf: str
    transposed: bool = False
    interleaved: Literal["query", "key"] | None = None
    when: Callable[[ModelConfig], bool] | None = None
    layers: Callable[[ModelConfig], tuple[int, ...]] | None = None
    adaptable: bool = True
    converted: bool = True


def _layer(parameter: str, hf: str, gguf: str, *, interleaved: Literal["query", "key"] | None = None) -> Row:
    """A parameter of every layer. Kernels of PyTorch's ``nn.Linear`` are [out, in]."""
    transposed = parameter.endswith(".kernel")
    return Row(f"blocks.{parameter}", f"model.layers.{{layer}}.{hf}", f"blk.{{layer}}.{gguf}", transposed, interleaved)


def _biases(kernels: tuple[Row, ...], when: Callable[[ModelConfig], bool]) -> tuple[Row, ...]:
    """The bias of each kernel, for configs that have biases."""
    return tuple(
        replace(
            row,
            parameter=row.parameter.removesuffix("kernel") + "bias",
            hf=row.hf.removesuffix("weight") + "bias",
            gguf=row.gguf.removesuffix("weight") + "bias",
            transposed=False,
            when=when,
        )
        for row in kernels
    )


def _not_interleaved(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(replace(row, interleaved=None) for row in rows)


_EMBEDDING = Row("embedding", "model.embed_tokens.weight", "token_embd.weight")
_NORM = Row("norm.scale", "model.norm.weight", "output_norm.weight")
_HEAD = Row("head", "lm_head.weight", "output.weight", when=lambda config: not config.tie_word_embeddings)

_QKV = (
    _layer("attention.q.kernel", "self_attn.q_proj.weight", "attn_q.weight", interleaved="query"),
    _layer("attention.k.kernel", "self_attn.k_proj.weight", "attn_k.weight", interleaved="key"),
    _layer("attention.v.kernel", "self_attn.v_proj.weight", "attn_v.weight"),
)
_OUTPUT = (_layer("attention.o.kernel", "self_attn.o_proj.weight", "attn_output.weight"),)
_ATTENTION = (
    *_QKV,
    *_biases(_QKV, lambda config: config.has_bias("qkv")),
    *_OUTPUT,
    *_biases(_OUTPUT, lambda config: config.has_bias("output")),
)
_QUERY_KEY_NORMS = (
    _layer("attention.q_norm.scale", "self_attn.q_norm.weight", "attn_q_norm.weight"),
    _layer("attention.k_norm.scale", "self_attn.k_norm.weight", "attn_k_norm.weight"),
)
_GATED = (
    _layer("mlp.gate.kernel", "mlp.gate_proj.weight", "ffn_gate.weight"),
    _layer("mlp.up.kernel", "mlp.up_proj.weight", "ffn_up.weight"),
    _layer("mlp.down.kernel", "mlp.down_proj.weight", "ffn_down.weight"),
)
_MLP = (*_GATED, *_biases(_GATED, lambda config: config.has_bias("mlp")))
_INPUT_NORM = _layer("input_norm.scale", "input_layernorm.weight", "attn_norm.weight")
_MLP_NORM = _layer("mlp_norm.scale", "post_attention_layernorm.weight", "ffn_norm.weight")

_LLAMA = (
    _EMBEDDING,
    _INPUT_NORM,
    *_ATTENTION,
    _MLP_NORM,
    *_MLP,
    _NORM,
    _HEAD,
)
_PHI3 = (
    _EMBEDDING,
    _INPUT_NORM,
    _layer("attention.qkv.kernel", "self_attn.qkv_proj.weight", "attn_qkv.weight"),
    *_OUTPUT,
    _MLP_NORM,
    _layer("mlp.gate_up.kernel", "mlp.gate_up_proj.weight", "ffn_up.weight"),
    _layer("mlp.down.kernel", "mlp.down_proj.weight", "ffn_down.weight"),
    _NORM,
    _HEAD,
)
_QWEN2 = _not_interleaved(_LLAMA)
_QWEN3 = (*_QWEN2, *_QUERY_KEY_NORMS)


def _on(
    rows: tuple[Row, ...], layers: Callable[[ModelConfig], tuple[int, ...]], *, converted: bool = True
) -> tuple[Row, ...]:
    """Rows of some layers only, without adapters: those of Transformers' experts are of another form."""
    return tuple(
        replace(row, layers=layers, when=lambda config: bool(layers(config)), adaptable=False, converted=converted)
        for row in rows
    )


_EXPERTS = (
    _layer("moe.experts.gate.kernel", "mlp.experts.{expert}.gate_proj.weight", "ffn_gate_exps.weight"),
    _layer("moe.experts.up.kernel", "mlp.experts.{expert}.up_proj.weight", "ffn_up_exps.weight"),
    _layer("moe.experts.down.kernel", "mlp.experts.{expert}.down_proj.weight", "ffn_down_exps.weight"),
)
_ROUTER = (_layer("moe.router.kernel", "mlp.gate.weight", "ffn_gate_inp.weight"),)
_QWEN3_MOE = (
    _EMBEDDING,
    _INPUT_NORM,
    *_not_interleaved(_ATTENTION),
    *_QUERY_KEY_NORMS,
    _MLP_NORM,
    *_on(_GATED, lambda config: config.mlp_layers),
    *_on(_ROUTER, lambda config: config.sparse_layers, converted=False),
    *_on(_EXPERTS, lambda config: config.sparse_layers),
    _NORM,
    _HEAD,
)
_GEMMA2 = (
    _EMBEDDING,
    _INPUT_NORM,
    *_not_interleaved(_ATTENTION),
    _layer("attention_output_norm.scale", "post_attention_layernorm.weight", "post_attention_norm.weight"),
    _layer("mlp_norm.scale", "pre_feedforward_layernorm.weight", "ffn_norm.weight"),
    *_MLP,
    _layer("mlp_output_norm.scale", "post_feedforward_layernorm.weight", "post_ffw_norm.weight"),
    _NORM,
    _HEAD,
)
_GEMMA3 = (*_GEMMA2, *_QUERY_KEY_NORMS)
# Gemma's without the norms before the sublayers.
_OLMO2 = tuple(row for row in _GEMMA3 if row.parameter not in ("blocks.input_norm.scale", "blocks.mlp_norm.scale"))


def _gpt2_layer(ours: str, hf: str, gguf: str, *, weight: Literal["scale", "kernel"]) -> tuple[Row, Row]:
    """A norm or a ``Conv1D`` with its bias. ``Conv1D`` kernels are [in, out], like ours (in GGUF [out, in])."""
    here, there, gguf = f"blocks.{ours}", f"transformer.h.{{layer}}.{hf}", f"blk.{{layer}}.{gguf}"
    return Row(f"{here}.{weight}", f"{there}.weight", f"{gguf}.weight"), Row(
        f"{here}.bias", f"{there}.bias", f"{gguf}.bias"
    )


_GPT2 = (
    Row("embedding", "transformer.wte.weight", "token_embd.weight"),
    Row("positions", "transformer.wpe.weight", "position_embd.weight"),
    *_gpt2_layer("input_norm", "ln_1", "attn_norm", weight="scale"),
    *_gpt2_layer("attention.c_attn", "attn.c_attn", "attn_qkv", weight="kernel"),
    *_gpt2_layer("attention.c_proj", "attn.c_proj", "attn_output", weight="kernel"),
    *_gpt2_layer("mlp_norm", "ln_2", "ffn_norm", weight="scale"),
    *_gpt2_layer("mlp.c_fc", "mlp.c_fc", "ffn_up", weight="kernel"),
    *_gpt2_layer("mlp.c_proj", "mlp.c_proj", "ffn_down", weight="kernel"),
    Row("norm.scale", "transformer.ln_f.weight", "output_norm.weight"),
    Row("norm.bias", "transformer.ln_f.bias", "output_norm.bias"),
    _HEAD,
)

FAMILIES: Mapping[str, tuple[Row, ...]] = MappingProxyType(
    {
        "llama": _LLAMA,
        "qwen2": _QWEN2,
        "qwen3": _QWEN3,
        "gemma3": _GEMMA3,
        "mistral": _LLAMA,
        "smollm3": _LLAMA,
        "gemma2": _GEMMA2,
        "olmo2": _OLMO2,
        "phi3": _PHI3,
        "qwen3_moe": _QWEN3_MOE,
        "gpt2": _GPT2,
    }
)

# Linear layers of each family that adapters apply to: dotted path of the `Linear` in the decoder → full name of the
# Hugging Face module, whose last part is the name in PEFT's ``target_modules``.
LINEAR_NAMES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        family: MappingProxyType(
            {
                row.parameter.removesuffix(".kernel"): row.hf.removesuffix(".weight")
                for row in rows
                if row.parameter.endswith(".kernel") and row.adaptable
            }
        )
        for family, rows in FAMILIES.items()
    }
)

# Prefix of every Hugging Face name except the head's. Files of a base model without head (gpt2 on the hub) lack it.
BASE_PREFIXES: Mapping[str, str] = MappingProxyType(
    {family: rows[0].hf.split(".", 1)[0] + "." for family, rows in FAMILIES.items()}
)
# Name endings of buffers in old checkpoints. They are derived from the config and ignored.
DERIVED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {family: (".self_attn.rotary_emb.inv_freq",) for family in FAMILIES} | {"gpt2": (".attn.bias", ".attn.masked_bias")}
)
_LM_HEAD = "lm_head.weight"


def rows_of(config: ModelConfig) -> tuple[Row, ...]:
    """The parameters of a decoder with this config: no output head if embeddings are tied, no absent biases."""
    return tuple(row for row in FAMILIES[config.family] if row.when is None or row.when(config))


def linear_paths(config: ModelConfig) -> tuple[str, ...]:
    """Dotted paths of the linear layers of a decoder with this config that weight formats apply to."""
    kernels = (row for row in rows_of(config) if row.parameter.endswith(".kernel") and row.converted)
    return tuple(row.parameter.removesuffix(".kernel") for row in kernels)


def _names(row: Row, config: ModelConfig, layout: Literal["hf", "gguf"]) -> list[str]:
    """The tensors of one parameter, in the order in which they are stacked."""
    template: str = getattr(row, layout)
    if "{layer}" not in template:
        return [template]
    layers = range(config.num_hidden_layers) if row.layers is None else row.layers(config)
    experts = range(config.num_experts if "{expert}" in template else 1)
    return [template.format(layer=layer, expert=expert) for layer in layers for expert in experts]


def _deinterleave(tensor: Array, heads: int) -> Array:
    """Rotary heads [out, in] or [out] from llama.cpp's adjacent pairs to Hugging Face's halves."""
    pairs = tensor.reshape(heads, tensor.shape[0] // heads // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(tensor.shape)


def hf_names(row: Row, config: ModelConfig) -> list[str]:
    """The Hugging Face names of a parameter's tensors, in the order in which they are stacked."""
    return _names(row, config, "hf")


def to_parameters(
    config: ModelConfig,
    available: Iterable[str],
    read: Callable[[str], Array],
    *,
    layout: Literal["hf", "gguf"],
    stack: Callable[[list[Array]], Array] = np.stack,
) -> Parameters:
    """Every parameter of the decoder, read tensor by tensor as float32. ``stack`` makes one array of the layers'.

    Raises `InvalidArtifact` naming each tensor that is missing or surplus, and one whose shape differs between layers.
    """
    rows = rows_of(config)
    names = {row.parameter: _names(row, config, layout) for row in rows}
    wanted = {name for each in names.values() for name in each}
    stored = _stored_names(config.family, available) if layout == "hf" else {name: name for name in available}
    surplus = sorted(stored.keys() - wanted)
    if surplus == [_LM_HEAD] and config.tie_word_embeddings and wanted <= stored.keys():
        if not np.array_equal(read(stored[_LM_HEAD]), read(stored[names["embedding"][0]])):
            raise InvalidArtifact(f"{_LM_HEAD} differs from the embedding although tie_word_embeddings is true")
        surplus = []
    problems = [f"missing: {_listed(missing)}" for missing in [sorted(wanted - stored.keys())] if missing]
    problems += [f"unknown for a {config.family} model with this config: {_listed(surplus)}"] if surplus else []
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
        tensors = [one(row, name) for name in names[row.parameter]]
        for name, tensor in zip(names[row.parameter], tensors, strict=True):
            if tensor.shape != tensors[0].shape:
                raise InvalidArtifact(f"{name} has another shape than {names[row.parameter][0]}")
        stacked = stack(tensors) if "{layer}" in row.hf else tensors[0]
        if "{expert}" in row.hf:
            stacked = stacked.reshape(-1, config.num_experts, *stacked.shape[1:])
        result[row.parameter] = stacked
    return result


def _stored_names(family: str, available: Iterable[str]) -> dict[str, str]:
    """Full Hugging Face name → name in the file, without derived buffers."""
    prefix = BASE_PREFIXES[family]
    kept = [name for name in available if not name.endswith(DERIVED[family])]
    if any(name.startswith(prefix) for name in kept):
        return {name: name for name in kept}
    return {name if name == _LM_HEAD else prefix + name: name for name in kept}


def to_hf_tensors(config: ModelConfig, parameters: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors of a Hugging Face checkpoint by name."""
    tensors: dict[str, Array] = {}
    for row in rows_of(config):
        value = parameters[row.parameter]
        value = value.reshape(-1, *value.shape[2:]) if "{expert}" in row.hf else value
        tensors_of_row = list(value) if "{layer}" in row.hf else [value]
        for name, tensor in zip(_names(row, config, "hf"), tensors_of_row, strict=True):
            tensors[name] = np.ascontiguousarray(tensor.T if row.transposed else tensor)
    return tensors


def _listed(names: list[str], most: int = 8) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
