"""Every field of a config.json is used, known to be harmless, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.rope import inverse_frequencies

GOOD: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def _fields(error: InvalidInput) -> set[str]:
    return {violation.field for violation in error.violations}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model_type": "mamba"}, "model_type"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"sliding_window": 128}, "sliding_window"),
        ({"rope_interleaved": True}, "rope_interleaved"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"a_field_of_tomorrow": 1}, "a_field_of_tomorrow"),
        ({"vocab_size": None}, "vocab_size"),
        ({"hidden_size": -1}, "hidden_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"head_dim": 7}, "head_dim"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"eos_token_id": 100}, "eos_token_id"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_scaling.rope_type"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_parameters.rope_type"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta": 1}}, "rope_scaling.beta"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling.low_freq_factor"),
    ],
)
def test_an_unsupported_field_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ModelConfig.from_hf(GOOD | change)
    assert field in _fields(caught.value)


def test_all_violations_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        ModelConfig.from_hf(GOOD | {"attention_bias": True, "unknown": 1, "hidden_size": 0})
    assert {"attention_bias", "unknown", "hidden_size"} <= _fields(caught.value)


def test_defaults_are_those_of_transformers() -> None:
    config = ModelConfig.from_hf(GOOD)
    assert (config.num_key_value_heads, config.head_dim) == (4, 8)
    assert (config.rms_norm_eps, config.rope_theta, config.max_position_embeddings) == (1e-6, 10000.0, 2048)
    assert config.tie_word_embeddings is False


def test_config_survives_writing_and_reading() -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512,
    }
    config = ModelConfig.from_hf(GOOD | {"rope_scaling": scaling, "eos_token_id": [1, 2], "tie_word_embeddings": True})
    assert ModelConfig.from_hf(config.to_hf()) == config


def test_rope_of_both_transformers_generations_means_the_same() -> None:
    old = ModelConfig.from_hf(GOOD | {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}})
    new = ModelConfig.from_hf(GOOD | {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}})
    assert old == new


def test_rotary_frequencies_are_powers_of_theta() -> None:
    config = ModelConfig.from_hf(GOOD | {"rope_theta": 10000.0})  # head size 8: 10000^(0, -1/4, -1/2, -3/4)
    np.testing.assert_allclose(inverse_frequencies(config), [1.0, 0.1, 0.01, 0.001], rtol=1e-6)


def test_parameter_count_of_a_hand_counted_model() -> None:
    # embedding 3200, head 3200, last norm 32; a layer: norms 64, q o 2048, k v 2048, mlp 6144
    assert ModelConfig.from_hf(GOOD).parameter_count == 3200 * 2 + 32 + 2 * (64 + 2048 + 2048 + 6144)
