"""Every field of a config.json is used, known to be harmless, warned of, or refused by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.models.hf_config import config_warnings, from_hf, to_hf
from tunix_rt.models.hf_nested import text_tensors
from tunix_rt.models.rope import attention_factor, inverse_frequencies

GOOD: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
QWEN2 = GOOD | {"model_type": "qwen2", "num_key_value_heads": 2}
QWEN3 = QWEN2 | {"model_type": "qwen3", "head_dim": 8}
GEMMA3 = QWEN3 | {"model_type": "gemma3_text", "sliding_window": 16}
MISTRAL = QWEN2 | {"model_type": "mistral"}
SMOLLM3 = QWEN2 | {"model_type": "smollm3"}
GEMMA2 = QWEN3 | {"model_type": "gemma2"}
OLMO2 = QWEN2 | {"model_type": "olmo2"}
PHI3 = GOOD | {"model_type": "phi3"}
LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 4.0, 8.0, 16.0]}
QWEN3_MOE = QWEN3 | {"model_type": "qwen3_moe"}
GPT2: dict[str, Any] = {"model_type": "gpt2", "vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4}
NESTED: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 90,
    "eos_token_id": [1, 6],
    "image_token_index": 99,
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": GEMMA3 | {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
}
FULL, SLIDING = "full_attention", "sliding_attention"


def _fields(error: InvalidInput) -> set[str]:
    return {violation.field for violation in error.violations}


@pytest.mark.parametrize(
    ("base", "change", "field"),
    [
        (GOOD, {"model_type": "mamba"}, "model_type"),
        (GOOD, {"model_type": "gemma3"}, "text_config"),
        (NESTED, {"text_config": GEMMA3 | {"hidden_activation": "gelu"}}, "text_config.hidden_activation"),
        (NESTED, {"quantization_config": {"bits": 4}}, "text_config.quantization_config"),
        (GOOD, {"attention_bias": 1}, "attention_bias"),
        (GOOD, {"mlp_bias": None, "attention_dropout": 0.1}, "attention_dropout"),
        (GOOD, {"hidden_act": "gelu"}, "hidden_act"),
        (GOOD, {"sliding_window": 128}, "sliding_window"),
        (GOOD, {"rope_interleaved": True}, "rope_interleaved"),
        (GOOD, {"quantization_config": {"bits": 4}}, "quantization_config"),
        (GOOD, {"vocab_size": None}, "vocab_size"),
        (GOOD, {"hidden_size": -1}, "hidden_size"),
        (GOOD, {"num_key_value_heads": 3}, "num_key_value_heads"),
        (GOOD, {"head_dim": 7}, "head_dim"),
        (GOOD, {"rms_norm_eps": 0}, "rms_norm_eps"),
        (GOOD, {"eos_token_id": 100}, "eos_token_id"),
        (GOOD, {"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        (GOOD, {"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "rope_scaling.rope_type"),
        (GOOD, {"rope_parameters": {"rope_type": "proportional"}}, "rope_parameters.rope_type"),
        (GOOD, {"rope_parameters": {"partial_rotary_factor": 0.5}}, "rope_parameters.partial_rotary_factor"),
        (GOOD, {"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor"),
        (GOOD, {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta": 1}}, "rope_scaling.beta"),
        (GOOD, {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling.low_freq_factor"),
        (GOOD, {"rope_scaling": {"type": "yarn", "factor": 8.0}}, "rope_scaling.original_max_position_embeddings"),
        (
            GOOD,
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "default"}},
            "rope_scaling",
        ),
        (GOOD, {"head_dim": 2, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling.rope_type"),
        (GOOD, {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (QWEN2, {"use_mrope": True}, "use_mrope"),
        (QWEN2, {"use_sliding_window": "on"}, "use_sliding_window"),
        (QWEN2, {"use_sliding_window": True, "sliding_window": 0, "max_window_layers": 0}, "sliding_window"),
        (QWEN2, {"use_sliding_window": True, "max_window_layers": -1}, "max_window_layers"),
        (QWEN2, {"layer_types": [FULL]}, "layer_types"),
        (QWEN2, {"layer_types": [FULL, "chunked_attention"]}, "layer_types"),
        (QWEN2, {"layer_types": [FULL, SLIDING]}, "sliding_window"),
        (QWEN2, {"rope_parameters": {FULL: {"rope_type": "default"}}}, "rope_parameters.full_attention"),
        (GEMMA3, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        (GEMMA3, {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        (GEMMA3, {"hidden_activation": "gelu"}, "hidden_activation"),
        (GEMMA3, {"sliding_window": None}, "sliding_window"),
        (GEMMA3, {"_sliding_window_pattern": 2}, "_sliding_window_pattern"),
        (GEMMA3, {"final_logit_softcapping": 0}, "final_logit_softcapping"),
        (GEMMA3, {"rope_parameters": {"rope_type": "default"}}, "rope_parameters.rope_type"),
        (GEMMA3, {"rope_parameters": {SLIDING: {"rope_type": "ntk"}}}, "rope_parameters.sliding_attention.rope_type"),
        (MISTRAL, {"sliding_window": 0}, "sliding_window"),
        (MISTRAL, {"sliding_window": "8"}, "sliding_window"),
        (SMOLLM3, {"no_rope_layers": [1]}, "no_rope_layers"),
        (SMOLLM3, {"no_rope_layers": [1, 2]}, "no_rope_layers"),
        (SMOLLM3, {"no_rope_layer_interval": 0}, "no_rope_layer_interval"),
        (SMOLLM3, {"layer_types": [FULL, SLIDING]}, "sliding_window"),
        (GEMMA2, {"attn_logit_softcapping": 0}, "attn_logit_softcapping"),
        (GEMMA2, {"attn_logit_softcapping": "50"}, "attn_logit_softcapping"),
        (PHI3, {"partial_rotary_factor": 0.4}, "partial_rotary_factor"),
        (PHI3, {"partial_rotary_factor": 1.5}, "partial_rotary_factor"),
        (PHI3, {"rope_parameters": {"partial_rotary_factor": "half"}}, "rope_parameters.partial_rotary_factor"),
        (
            PHI3,
            {"partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.25}},
            "partial_rotary_factor",
        ),
        (PHI3, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_scaling.rope_type"),
        (PHI3, {"rope_scaling": LONGROPE | {"short_factor": [1.0]}}, "rope_scaling.short_factor"),
        (PHI3, {"rope_scaling": LONGROPE | {"long_factor": [1.0, 1.0, 0.0, 1.0]}}, "rope_scaling.long_factor"),
        (PHI3, {"rope_scaling": LONGROPE | {"long_factor": None}}, "rope_scaling.long_factor"),
        (PHI3, {"rope_scaling": LONGROPE | {"beta_fast": 1.0}}, "rope_scaling.beta_fast"),
        (PHI3, {"rope_scaling": LONGROPE, "original_max_position_embeddings": 1}, "original_max_position_embeddings"),
        (
            PHI3,
            {"rope_scaling": LONGROPE | {"original_max_position_embeddings": 64}},
            "rope_scaling.original_max_position_embeddings",
        ),
        (PHI3, {"lm_head_bias": True}, "lm_head_bias"),
        (PHI3, {"attention_bias": True}, "attention_bias"),
        (QWEN3_MOE, {"num_experts_per_tok": 129}, "num_experts_per_tok"),
        (QWEN3_MOE, {"num_experts": 0}, "num_experts"),
        (QWEN3_MOE, {"num_experts": 8, "num_local_experts": 9}, "num_local_experts"),
        (QWEN3_MOE, {"norm_topk_prob": 1}, "norm_topk_prob"),
        (QWEN3_MOE, {"decoder_sparse_step": 0}, "decoder_sparse_step"),
        (QWEN3_MOE, {"mlp_only_layers": 3}, "mlp_only_layers"),
        (QWEN3_MOE, {"output_router_logits": True}, "output_router_logits"),
        (GPT2, {"activation_function": "relu"}, "activation_function"),
        (GPT2, {"scale_attn_weights": False}, "scale_attn_weights"),
        (GPT2, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        (GPT2, {"add_cross_attention": True}, "add_cross_attention"),
        (GPT2, {"n_embd": None}, "n_embd"),
        (GPT2, {"n_head": 5}, "n_head"),
        (GPT2, {"layer_norm_epsilon": -1.0}, "layer_norm_epsilon"),
    ],
)
def test_an_unsupported_field_is_refused_by_name(base: dict[str, Any], change: dict[str, Any], field: str) -> None:
    from_hf(base)
    with pytest.raises(InvalidInput) as caught:
        from_hf(base | change)
    assert field in _fields(caught.value)


@pytest.mark.parametrize(
    ("base", "change", "warned"),
    [
        (GOOD, {"a_field_of_tomorrow": 1}, {"a_field_of_tomorrow"}),
        (GOOD, {"layer_types": [FULL, FULL], "num_experts": 8}, {"layer_types", "num_experts"}),
        (QWEN2, {"attention_bias": False}, {"attention_bias"}),
        (MISTRAL, {"layer_types": [FULL, FULL]}, {"layer_types"}),
        (MISTRAL, {"attention_bias": False}, {"attention_bias"}),
        (GEMMA2, {"rope_local_base_freq": 100.0}, {"rope_local_base_freq"}),
        (OLMO2, {"mlp_bias": False}, {"mlp_bias"}),
        (OLMO2, {"sliding_window": 4}, {"sliding_window"}),
        (OLMO2, {"clip_qkv": 8.0}, {"clip_qkv"}),
        (QWEN3, {"mlp_bias": False, "query_pre_attn_scalar": 8}, {"mlp_bias", "query_pre_attn_scalar"}),
        (GEMMA3, {"hidden_act": "silu"}, {"hidden_act"}),
        (GPT2, {"rope_theta": 10000.0}, {"rope_theta"}),
        (GOOD, {"unsloth_fixed": True, "unsloth_version": "2025.9.1", "tokenizer_class": "LlamaTokenizer"}, set()),
        (GOOD, {"_flash_attn_2_enabled": True, "_attn_implementation_autoset": True, "torchscript": False}, set()),
        (GOOD, {"do_sample": False, "max_length": 20, "temperature": 1.0, "pruned_heads": {}}, set()),
        (GOOD, {"output_past": True, "keys_to_ignore_at_inference": ["x"], "max_sequence_length": 4096}, set()),
    ],
)
def test_a_field_without_effect_is_accepted_and_an_unknown_one_is_warned_of(
    base: dict[str, Any], change: dict[str, Any], warned: set[str]
) -> None:
    assert from_hf(base | change) == from_hf(base)
    warnings = config_warnings(base | change)
    assert {warning.split()[1] for warning in warnings} == warned
    assert all(f"not a field of a {base['model_type']} model" in warning for warning in warnings)


def test_of_a_multimodal_config_the_text_part_is_read() -> None:
    """As google/gemma-3-4b-it has it: what Transformers' classes give by default is left out."""
    config = from_hf(NESTED)
    assert config == from_hf(NESTED["text_config"] | {"eos_token_id": [1, 6]})
    assert (config.rope_scaling.factor, config.sliding_rope_scaling.rope_type) == (8.0, "default")
    assert config_warnings(NESTED) == ("of this gemma3 model the text part alone is used",)
    published = NESTED | {
        "text_config": {
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "model_type": "gemma3_text",
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        }
    }
    large = from_hf(published)
    assert (large.vocab_size, large.num_attention_heads, large.num_key_value_heads) == (262_208, 8, 4)
    assert 3.8e9 < large.parameter_count < 3.9e9


def test_tensors_of_the_text_part_are_named_as_those_of_a_text_model() -> None:
    wanted = {"model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "lm_head.weight"}
    older = {f"language_model.{name}" for name in wanted} | {"vision_tower.a.weight", "multi_modal_projector.b"}
    newer = {"model.language_model.embed_tokens.weight", "model.language_model.layers.0.mlp.up_proj.weight"}
    newer |= {"lm_head.weight", "model.vision_tower.a.weight", "model.multi_modal_projector.b"}
    for stored in (older, newer):
        found = text_tensors(stored)
        assert found.keys() == wanted
        assert set(found.values()) <= stored


def test_the_original_length_of_yarn_is_the_models_if_none_is_given() -> None:
    scaling = {"type": "yarn", "factor": 4.0, "finetuned": True}
    long = GOOD | {"max_position_embeddings": 4096}
    assert from_hf(long | {"rope_scaling": scaling}).rope_scaling.original_max_position_embeddings == 4096
    inner = scaling | {"original_max_position_embeddings": 512}
    assert from_hf(long | {"rope_scaling": inner}).rope_scaling.original_max_position_embeddings == 512
    outer = {"rope_scaling": inner, "original_max_position_embeddings": 1024}
    assert from_hf(long | outer).rope_scaling.original_max_position_embeddings == 1024


FLOATS = ("norm_epsilon", "rope_theta", "initializer_range", "query_pre_attn_scalar", "final_logit_softcapping")


@pytest.mark.parametrize("number", [10**30, 10**400, -(2**63), 2**63, 3])
@pytest.mark.parametrize(
    ("base", "field"),
    [
        *((GOOD, name) for name in ("rms_norm_eps", "rope_theta", "initializer_range")),
        *((GEMMA3, name) for name in ("query_pre_attn_scalar", "final_logit_softcapping", "sliding_window")),
        (GPT2, "layer_norm_epsilon"),
        (GEMMA2, "attn_logit_softcapping"),
        (PHI3 | {"rope_scaling": LONGROPE}, "max_position_embeddings"),
        (PHI3 | {"rope_scaling": LONGROPE}, "original_max_position_embeddings"),
        (QWEN3_MOE, "moe_intermediate_size"),
    ],
)
def test_whole_numbers_of_any_size_are_floats_or_refused_by_name(base: dict[str, Any], field: str, number: int) -> None:
    try:
        config = from_hf(base | {field: number})
    except InvalidInput as error:
        assert _fields(error) == {field}
        assert number != 3
    else:
        assert {type(getattr(config, name)) for name in FLOATS} <= {float, type(None)}
        assert config.sliding_window is None or config.sliding_window < 2**31


def test_a_field_of_another_family_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        dataclasses.replace(from_hf(GPT2), attention_bias=True, sliding_window=4)
    assert _fields(caught.value) == {"attention_bias", "sliding_window"}


def test_all_violations_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        from_hf(GOOD | {"hidden_act": "gelu", "rope_interleaved": 1, "hidden_size": 0})
    assert {"hidden_act", "rope_interleaved", "hidden_size"} <= _fields(caught.value)


def test_defaults_are_those_of_transformers() -> None:
    config = from_hf(GOOD)
    assert (config.num_key_value_heads, config.head_dim) == (4, 8)
    assert (config.norm_epsilon, config.rope_theta, config.max_position_embeddings) == (1e-6, 10000.0, 2048)
    assert config.tie_word_embeddings is False
    gemma = from_hf(GEMMA3 | {"num_hidden_layers": 7})
    assert gemma.types_of_layers == (SLIDING,) * 5 + (FULL, SLIDING)
    assert (gemma.rope_theta, gemma.sliding_rope_theta, gemma.attention_scale) == (1e6, 1e4, 1 / 16)
    assert gemma.tie_word_embeddings is True
    mistral = from_hf(MISTRAL)
    assert (mistral.types_of_layers, mistral.sliding_window) == ((SLIDING, SLIDING), 4096)
    assert from_hf(MISTRAL | {"sliding_window": None}).types_of_layers == (FULL, FULL)
    smollm3 = from_hf(SMOLLM3 | {"num_hidden_layers": 9})
    assert (smollm3.unrotated_layers, smollm3.rope_theta, smollm3.tie_word_embeddings) == ((3, 7), 2e6, True)
    gemma2 = from_hf(GEMMA2)
    assert (gemma2.types_of_layers, gemma2.sliding_window, gemma2.rope_theta) == ((SLIDING, FULL), 4096, 10000.0)
    assert (gemma2.attention_softcapping, gemma2.final_logit_softcapping, gemma2.attention_scale) == (
        50.0,
        30.0,
        1 / 16,
    )
    uncapped = from_hf(GEMMA2 | {"attn_logit_softcapping": None, "final_logit_softcapping": None})
    assert (uncapped.attention_softcapping, uncapped.final_logit_softcapping) == (None, None)
    assert from_hf(OLMO2).norm_epsilon == 1e-5
    phi3 = from_hf(PHI3)
    assert (phi3.num_key_value_heads, phi3.sliding_window, phi3.max_position_embeddings) == (4, None, 4096)
    assert (phi3.rotary_size, from_hf(PHI3 | {"partial_rotary_factor": 0.75}).rotary_size) == (8, 6)
    longrope = from_hf(PHI3 | {"max_position_embeddings": 131072, "rope_scaling": LONGROPE})
    assert (longrope.cacheable_positions, longrope.rope_scaling.factor) == (4096, 32.0)
    moe = from_hf(QWEN3_MOE | {"num_hidden_layers": 5, "decoder_sparse_step": 2, "mlp_only_layers": [3, 9]})
    assert (moe.num_experts, moe.num_experts_per_tok, moe.moe_intermediate_size) == (128, 8, 768)
    assert (moe.sparse_layers, moe.mlp_layers, moe.norm_topk_prob) == ((1,), (0, 2, 3, 4), False)
    gpt2 = from_hf(GPT2)
    assert (gpt2.intermediate_size, gpt2.max_position_embeddings, gpt2.norm_epsilon) == (128, 1024, 1e-5)
    assert (gpt2.tie_word_embeddings, gpt2.head_dim) == (True, 8)
    assert from_hf(GOOD | {"model_type": "qwen3", "num_key_value_heads": 2}).head_dim == 128


# As on the hub, shortened to two layers and a small vocabulary; what a logit does not depend on is left in.
HUB: dict[str, dict[str, Any]] = {
    "distilgpt2": GPT2
    | {
        "_num_labels": 1,
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": 99,
        "embd_pdrop": 0.1,
        "eos_token_id": 99,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "layer_norm_epsilon": 1e-05,
        "n_ctx": 1024,
        "n_positions": 1024,
        "resid_pdrop": 0.1,
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    },
    "gemma-3-1b-it": GEMMA3
    | {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": None,
        "cache_implementation": "hybrid",
        "eos_token_id": [1, 6],
        "final_logit_softcapping": None,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window_pattern": 6,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    },
    "Mistral-7B-v0.3": MISTRAL
    | {
        "attention_dropout": 0.0,
        "head_dim": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
    },
    "SmolLM3-3B": SMOLLM3
    | {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "max_window_layers": 28,
        "mlp_bias": False,
        "no_rope_layer_interval": 4,
        "no_rope_layers": [1, 0],
        "pretraining_tp": 2,
        "rope_scaling": None,
        "rope_theta": 5000000.0,
        "sliding_window": None,
        "use_sliding_window": False,
    },
    "gemma-2-2b": GEMMA2
    | {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": 30.0,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
    },
    "OLMo-2-0425-1B": OLMO2
    | {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "eos_token_id": 57,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "num_key_value_heads": 4,
        "pad_token_id": 77,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 500000,
    },
    "Phi-3-mini-4k-instruct": PHI3
    | {
        "_name_or_path": "Phi-3-mini-4k-instruct",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
        "embd_pdrop": 0.0,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "resid_pdrop": 0.0,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "sliding_window": 2047,
    },
    "Qwen3-30B-A3B": QWEN3_MOE
    | {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "decoder_sparse_step": 1,
        "hidden_act": "silu",
        "max_window_layers": 48,
        "mlp_only_layers": [],
        "moe_intermediate_size": 768,
        "norm_topk_prob": True,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "output_router_logits": False,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.001,
        "sliding_window": None,
        "use_sliding_window": False,
    },
    "Phi-3.5-mini-instruct": PHI3
    | {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "rope_scaling": LONGROPE},
    "Qwen2.5-0.5B": QWEN2
    | {
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "max_window_layers": 24,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": True,
        "use_mrope": False,
        "use_sliding_window": False,
    },
    "unsloth/Llama-3.2-1B-Instruct": GOOD
    | {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 90,
        "eos_token_id": [91, 98, 99],
        "mlp_bias": False,
        "pad_token_id": 94,
        "pretraining_tp": 1,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "unsloth_fixed": True,
        "unsloth_version": "2025.9.1",
    },
    "a fine-tuned Llama of Transformers 4.35": GOOD
    | {
        "_flash_attn_2_enabled": True,
        "_name_or_path": "/workspace/out",
        "do_sample": False,
        "max_length": 20,
        "pruned_heads": {},
        "temperature": 1.0,
        "tokenizer_class": "LlamaTokenizer",
        "torchscript": False,
    },
    "Qwen3-0.6B": QWEN3
    | {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "max_window_layers": 28,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "use_sliding_window": False,
    },
}


@pytest.mark.parametrize("name", HUB)
def test_configs_of_the_hub_are_read_and_survive_writing(name: str) -> None:
    config = from_hf(HUB[name])
    assert config_warnings(HUB[name]) == ()
    assert from_hf(to_hf(config)) == config


def test_config_survives_writing_and_reading() -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512,
    }
    config = from_hf(GOOD | {"rope_scaling": scaling, "eos_token_id": [1, 2], "tie_word_embeddings": True})
    assert from_hf(to_hf(config)) == config


def test_rope_of_both_transformers_generations_means_the_same() -> None:
    old = from_hf(GOOD | {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}})
    new = from_hf(GOOD | {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}})
    assert old == new


def test_rotary_frequencies_are_powers_of_theta() -> None:
    config = from_hf(GOOD | {"rope_theta": 10000.0})  # head size 8: 10000^(0, -1/4, -1/2, -3/4)
    np.testing.assert_allclose(inverse_frequencies(config), [1.0, 0.1, 0.01, 0.001], rtol=1e-6)


def test_llama3_and_yarn_divide_low_frequencies_only() -> None:
    """Head size 8, base 10⁴, 100 positions: the pairs turn 100 / 2π · (1, 0.1, 0.01, 0.001) = 15.9, 1.6, 0.16, 0.016
    times. Llama 3 keeps what fits more than 4 times and quarters what fits less than once: 1.6 lies 0.197 of the way.
    YaRN's ramp runs over the index of the pair, here from floor(0.2) = 0 (10 turns) to ceil(2.2) = 3 (0.1 turns).
    """
    plain = np.asarray([1.0, 0.1, 0.01, 0.001])
    common = {"factor": 4.0, "original_max_position_embeddings": 100}
    llama3 = common | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    kept = np.asarray([1.0, (10 / (2 * np.pi) - 1) / 3, 0.0, 0.0])
    found = inverse_frequencies(from_hf(GOOD | {"rope_scaling": llama3}))
    np.testing.assert_allclose(found, plain * (kept + (1 - kept) / 4), rtol=1e-5)
    yarn = common | {"rope_type": "yarn", "beta_fast": 10.0, "beta_slow": 0.1}
    config = from_hf(GOOD | {"rope_scaling": yarn})
    kept = np.asarray([1.0, 2 / 3, 1 / 3, 0.0])
    np.testing.assert_allclose(inverse_frequencies(config), plain * (kept + (1 - kept) / 4), rtol=1e-5)
    assert attention_factor(config.rope_scaling) == pytest.approx(0.1 * np.log(4) + 1)


def test_parameter_count_of_a_hand_counted_model() -> None:
    # embedding 3200, head 3200, last norm 32; a layer: norms 64, q o 2048, k v 2048, mlp 6144
    assert from_hf(GOOD).parameter_count == 3200 * 2 + 32 + 2 * (64 + 2048 + 2048 + 6144)
