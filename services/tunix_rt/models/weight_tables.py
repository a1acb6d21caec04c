"""One table per family: which tensor of a Hugging Face or GGUF file is which parameter of the decoder.

Owns names and layouts. GGUF names are those of the `gguf` package's ``MODEL_TENSORS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from tunix_rt.models.config import ModelConfig


@dataclass(frozen=True)
class Row:
    """One parameter. ``{layer}`` in a name makes it a stack over all layers; ``transposed`` files hold [out, in]
    where we hold [in, out].

    ``interleaved`` names whose heads llama.cpp interleaved when it converted the tensor to GGUF. A row counts for the
    configs that satisfy ``when``.
    """

    parameter: str
    hf: str
    gguf: str
    transposed: bool = False
    interleaved: Literal["query", "key"] | None = None
    when: Callable[[ModelConfig], bool] | None = None


def _layer(parameter: str, hf: str, gguf: str, *, interleaved: Literal["query", "key"] | None = None) -> Row:
    """One parameter of every layer; kernels of PyTorch's ``nn.Linear`` are [out, in]."""
    transposed = parameter.endswith(".kernel")
    return Row(f"blocks.{parameter}", f"model.layers.{{layer}}.{hf}", f"blk.{{layer}}.{gguf}", transposed, interleaved)


def _biases(kernels: tuple[Row, ...], when: Callable[[ModelConfig], bool]) -> tuple[Row, ...]:
    """The bias beside each kernel, for configs that have them."""
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

_LLAMA = (
    _EMBEDDING,
    _INPUT_NORM,
    *_ATTENTION,
    _layer("mlp_norm.scale", "post_attention_layernorm.weight", "ffn_norm.weight"),
    *_MLP,
    _NORM,
    _HEAD,
)
_QWEN2 = _not_interleaved(_LLAMA)
_QWEN3 = (*_QWEN2, *_QUERY_KEY_NORMS)
_GEMMA3 = (
    _EMBEDDING,
    _INPUT_NORM,
    *_not_interleaved(_ATTENTION),
    *_QUERY_KEY_NORMS,
    _layer("attention_output_norm.scale", "post_attention_layernorm.weight", "post_attention_norm.weight"),
    _layer("mlp_norm.scale", "pre_feedforward_layernorm.weight", "ffn_norm.weight"),
    *_MLP,
    _layer("mlp_output_norm.scale", "post_feedforward_layernorm.weight", "post_ffw_norm.weight"),
    _NORM,
    _HEAD,
)


def _gpt2_layer(ours: str, hf: str, gguf: str, *, weight: Literal["scale", "kernel"]) -> tuple[Row, Row]:
    """A norm or a ``Conv1D``, each with a bias; a ``Conv1D`` holds [in, out] as we do, its GGUF form [out, in]."""
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
    {"llama": _LLAMA, "qwen2": _QWEN2, "qwen3": _QWEN3, "gemma3": _GEMMA3, "gpt2": _GPT2}
)

# Every linear layer of a family: the dotted path of its `Linear` in the decoder, and the full name of its Hugging Face
# module, whose last part is what PEFT's ``target_modules`` names.
LINEAR_NAMES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        family: MappingProxyType(
            {
                row.parameter.removesuffix(".kernel"): row.hf.removesuffix(".weight")
                for row in rows
                if row.parameter.endswith(".kernel")
            }
        )
        for family, rows in FAMILIES.items()
    }
)

# What Hugging Face puts before every name but the head's; files of the base model alone (gpt2 on the hub) lack it.
BASE_PREFIXES: Mapping[str, str] = MappingProxyType(
    {family: rows[0].hf.split(".", 1)[0] + "." for family, rows in FAMILIES.items()}
)
# Ends of the names of buffers that old checkpoints carry and that follow from the config.
DERIVED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {family: (".self_attn.rotary_emb.inv_freq",) for family in FAMILIES} | {"gpt2": (".attn.bias", ".attn.masked_bias")}
)
