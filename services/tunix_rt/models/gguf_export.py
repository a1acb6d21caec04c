"""Writes a model as one GGUF file for llama.cpp, with names and metadata as ``convert_hf_to_gguf.py`` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, RopeScalingType, quantize
from numpy.typing import NDArray

from tunix_rt.errors import FieldViolation, InvalidInput, Violations
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.families import ARCHITECTURES
from tunix_rt.models.gguf_vocabulary import read_vocabulary
from tunix_rt.models.kept_settings import DEFAULT_TEMPLATE, NOTHING_KEPT, KeptSettings
from tunix_rt.models.rope import inverse_frequencies
from tunix_rt.models.safetensors_files import as_type
from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.models.weight_map import Array, Parameters, Row, rows_of

GGUF_FILE: Final = "model.gguf"
# Every sixth layer of gemma3 has full attention; llama.cpp has it in its code.
_GEMMA_PATTERN: Final = 6
_TYPES: Final = MappingProxyType(
    {
        "float32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
        "float16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
        "bfloat16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    }
)


def write_gguf(
    parameters: Parameters,
    config: ModelConfig,
    tokenizer: Tokenizer,
    path: Path,
    *,
    dtype: str,
    name: str,
    kept: KeptSettings = NOTHING_KEPT,
) -> None:
    """Write a model whose matrices have type ``dtype``; vectors, and GPT-2's positions, stay float32.

    Raises `InvalidInput` naming what llama.cpp's code of the family cannot represent, and values beyond ``dtype``.
    """
    check_gguf(config)
    vocabulary = read_vocabulary(json.loads(tokenizer.document()), config.vocab_size)
    kind, file_type = _TYPES[dtype]
    writer = GGUFWriter(path, config.family)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    _add_shape(writer, config)
    _add_rope(writer, config)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types([int(each) for each in vocabulary.types])
    if vocabulary.merges:
        writer.add_token_merges(list(vocabulary.merges))
    if vocabulary.scores:
        writer.add_token_scores(list(vocabulary.scores))
    if vocabulary.space_prefix is not None:
        writer.add_add_space_prefix(vocabulary.space_prefix)
    _add_special_tokens(writer, tokenizer)
    templates = {} if tokenizer.chat_template is None else {DEFAULT_TEMPLATE: tokenizer.chat_template}
    if templates | dict(kept.templates):
        listed = (templates | dict(kept.templates)).items()
        writer.add_chat_template([{"name": each, "template": template} for each, template in listed])
    for tensor_name, tensor in _tensors(config, parameters):
        whole = tensor.ndim < 2 or tensor_name == "position_embd.weight"
        stored = GGMLQuantizationType.F32 if whole else kind
        as_type(tensor, np.dtype(np.float16 if stored == GGMLQuantizationType.F16 else np.float32), tensor_name)
        writer.add_tensor(tensor_name, quantize(tensor, stored), raw_dtype=stored)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def check_gguf(config: ModelConfig) -> None:
    """Raises `InvalidInput` naming each field of the config that llama.cpp's code of the family cannot represent."""
    if config.family not in _CHECKS:
        problem = f"no GGUF is written for a {config.family} model; supported: {', '.join(_CHECKS)}"
        raise InvalidInput([FieldViolation("format", problem)])
    bad = Violations("config.")
    scaling = config.rope_scaling
    bad.check(scaling.rope_type != "dynamic", "rope_scaling", "GGUF has no dynamic scaling")
    plain = (scaling.attention_factor, scaling.mscale, scaling.mscale_all_dim, scaling.truncate) == (*(None,) * 3, True)
    usual = plain and (scaling.beta_fast, scaling.beta_slow) == (32.0, 1.0)
    bad.check(scaling.rope_type != "yarn" or usual, "rope_scaling", "GGUF has no such settings of yarn")
    llama3 = scaling.rope_type == "llama3" and config.family != "llama"
    bad.check(not llama3, "rope_scaling", f"llama.cpp reads no llama3 scaling of a {config.family} model")
    _CHECKS[config.family](config, bad)
    bad.raise_if_any()


def _nothing(config: ModelConfig, bad: Violations) -> None:
    """Every config of the family can be written."""


def _check_qwen(config: ModelConfig, bad: Violations) -> None:
    bad.check(config.sliding_window is None, "sliding_window", "llama.cpp gives this family full attention alone")
    biased = config.family == "qwen3" and config.has_bias("qkv")
    bad.check(not biased, "attention_bias", "llama.cpp reads no biases of this family")


def _check_gemma3(config: ModelConfig, bad: Violations) -> None:
    scale = config.query_pre_attn_scalar
    bad.check(scale in (None, config.head_dim), "query_pre_attn_scalar", f"must be head_dim, {config.head_dim}")
    bad.check(config.final_logit_softcapping is None, "final_logit_softcapping", "is not read by llama.cpp")
    full = ["full_attention" if (layer + 1) % _GEMMA_PATTERN == 0 else "sliding_attention" for layer in _layers(config)]
    bad.check(
        list(config.types_of_layers) == full, "layer_types", f"must have full attention in every {_GEMMA_PATTERN}th"
    )
    bad.check(not config.has_bias("qkv"), "attention_bias", "llama.cpp reads no biases of this family")
    plain = config.rope_of("sliding_attention")[1].rope_type == "default"
    bad.check(plain, "rope_scaling", "llama.cpp scales no sliding layers")


_CHECKS: Final[Mapping[str, Callable[[ModelConfig, Violations], None]]] = MappingProxyType(
    {"llama": _nothing, "qwen2": _check_qwen, "qwen3": _check_qwen, "gemma3": _check_gemma3, "gpt2": _nothing}
)


def _layers(config: ModelConfig) -> range:
    return range(config.num_hidden_layers)


def _add_shape(writer: GGUFWriter, config: ModelConfig) -> None:
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    if ARCHITECTURES[config.family].norm == "layer":
        writer.add_layer_norm_eps(config.norm_epsilon)
        return
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    if config.sliding_window is not None:
        writer.add_sliding_window(config.sliding_window)


def _add_rope(writer: GGUFWriter, config: ModelConfig) -> None:
    if ARCHITECTURES[config.family].learned_positions:
        return
    theta, scaling = config.rope_of("full_attention")
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(theta)
    if config.sliding_window is not None:
        writer.add_rope_freq_base_swa(config.rope_of("sliding_attention")[0])
    if scaling.rope_type == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling.factor)
    elif scaling.rope_type == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling.factor)
        writer.add_rope_scaling_orig_ctx_len(scaling.original_max_position_embeddings)


def _add_special_tokens(writer: GGUFWriter, tokenizer: Tokenizer) -> None:
    first, *others = tokenizer.eos_token_ids
    writer.add_eos_token_id(first)
    if others:
        # llama.cpp stops at either: at the end of a text, and at the end of a turn.
        writer.add_eot_token_id(others[0])
    writer.add_pad_token_id(tokenizer.pad_token_id)
    unknown = None if tokenizer.special.unk is None else tokenizer.fast.token_to_id(tokenizer.special.unk)
    if unknown is not None:
        writer.add_unk_token_id(unknown)
    encoded = tokenizer.encode("a", add_special_tokens=True)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and encoded[:1] == [tokenizer.bos_token_id])
    writer.add_add_eos_token(encoded[-1:] == [first])


def _tensors(config: ModelConfig, parameters: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """The tensors of a GGUF file; matrices are [out, in]."""
    if config.rope_scaling.rope_type == "llama3":
        yield "rope_freqs.weight", _rope_factors(config)
    for row in rows_of(config):
        value = parameters[row.parameter]
        if "{layer}" not in row.gguf:
            yield row.gguf, _tensor(config, row, value)
            continue
        for layer in _layers(config):
            yield row.gguf.format(layer=layer), _tensor(config, row, value[layer])


def _tensor(config: ModelConfig, row: Row, value: Array) -> Array:
    # All kernels are [in, out] here, GPT-2's included.
    tensor = value.T if row.parameter.endswith(".kernel") else value
    if row.interleaved is not None:
        heads = config.num_attention_heads if row.interleaved == "query" else config.num_key_value_heads
        halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, -1)
        tensor = halves.swapaxes(1, 2).reshape(tensor.shape)
    if ARCHITECTURES[config.family].norm == "rms_around_one" and row.parameter.endswith(".scale"):
        # llama.cpp multiplies by the weight itself.
        tensor = tensor + np.float32(1)
    return np.ascontiguousarray(tensor, dtype=np.float32)


def _rope_factors(config: ModelConfig) -> NDArray[np.float32]:
    """Divisors of the rotary frequencies, [head_dim / 2]: how llama.cpp is told of llama3 scaling."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    plain: Any = np.float32(1) / np.power(np.float32(config.rope_theta), exponents)
    return np.asarray(plain / inverse_frequencies(config), dtype=np.float32)
