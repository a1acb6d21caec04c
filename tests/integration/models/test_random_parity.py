"""Random models of odd shapes, of every family: our logits are those of Transformers, trained or cached, from its own
files; and Transformers reads ours.

The cases run operation by operation: compiling some fifty small programs takes longer than running them. One of them
runs compiled as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.integration.models.random_peers import Peer, agree_when_cached, read_back, read_ours, save_peer

from tunix_rt.errors import InvalidInput
from tunix_rt.models.cached import init_cache
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.parameters import parameters_of

LENGTH = 16
WINDOW = 5
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
# Pairs turn up to 2.5 times within 16 positions, so that these bounds leave some on each side and some in between.
YARN_BLENDED = YARN | {"beta_fast": 2.0, "beta_slow": 0.05}
FULL, SLIDING = "full_attention", "sliding_attention"

# Shapes are shared where the case is not about them: what runs operation by operation compiles one per shape.
_ROTARY: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": None,
}
_MULTI_HEAD = {"num_key_value_heads": 4}
_ONE_WIDE_KEY_HEAD = {"num_key_value_heads": 1, "head_dim": 20}
_WINDOWED = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 0}
BASES: dict[str, dict[str, Any]] = {
    "llama": _ROTARY,
    "qwen2": _ROTARY,
    "qwen3": _ROTARY,
    "gemma3_text": _ROTARY
    | {
        "tie_word_embeddings": True,
        "num_hidden_layers": 3,
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 12,
        "layer_types": [SLIDING, FULL, SLIDING],
    },
    "gpt2": {
        "vocab_size": 100,
        "n_embd": 48,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 80,
        "n_positions": 64,
        "bos_token_id": 0,
        "eos_token_id": 2,
    },
}
CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "llama": {
        "grouped_heads_untied": {},
        "multi_head_tied": _MULTI_HEAD | {"tie_word_embeddings": True},
        "one_key_head_head_dim_above_hidden_over_heads": _ONE_WIDE_KEY_HEAD,
        "rope_theta_and_epsilon": {"rope_theta": 500000.0, "rms_norm_eps": 1e-2, "num_hidden_layers": 3},
        "linear_scaling": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        "dynamic_scaling_not_reached": {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
        "dynamic_scaling_past_its_length": {
            "rope_scaling": {"rope_type": "dynamic", "factor": 3.0},
            "max_position_embeddings": 9,
        },
        "llama3_scaling": {"rope_scaling": LLAMA3, "rope_theta": 500000.0},
        "llama3_scaling_tied": {"rope_scaling": LLAMA3, "tie_word_embeddings": True},
        "yarn": {"rope_scaling": YARN},
        "yarn_blended": {"rope_scaling": YARN_BLENDED},
        "yarn_not_truncated": {"rope_scaling": YARN_BLENDED | {"truncate": False}},
        "yarn_with_attention_factor": {"rope_scaling": YARN_BLENDED | {"attention_factor": 0.7}},
        "yarn_with_mscale": {"rope_scaling": YARN_BLENDED | {"mscale": 0.7, "mscale_all_dim": 1.4}},
        "attention_bias": {"attention_bias": True},
        "every_bias": {"attention_bias": True, "mlp_bias": True},
        "odd_sizes_head_dim_below_hidden_over_heads": {
            "vocab_size": 83,
            "hidden_size": 45,
            "intermediate_size": 37,
            "num_hidden_layers": 1,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "head_dim": 6,
        },
    },
    "qwen2": {
        "grouped_heads_untied": {},
        "multi_head_tied": _MULTI_HEAD | {"tie_word_embeddings": True},
        "one_wide_key_head": _ONE_WIDE_KEY_HEAD,
        "every_layer_sliding": _WINDOWED,
        "last_layers_sliding": _WINDOWED | {"max_window_layers": 1, "num_hidden_layers": 3},
        "window_not_in_use": _WINDOWED | {"use_sliding_window": False},
        "window_of_one": _WINDOWED | {"sliding_window": 1},
        "layer_types": _WINDOWED | {"layer_types": [SLIDING, FULL, SLIDING], "num_hidden_layers": 3},
        "yarn": {"rope_scaling": YARN_BLENDED, "rope_theta": 1000000.0},
        "llama3_scaling_and_window": _WINDOWED | {"rope_scaling": LLAMA3},
    },
    "qwen3": {
        "grouped_heads_untied": {},
        "one_wide_key_head": _ONE_WIDE_KEY_HEAD,
        "biases_tied": {"attention_bias": True, "tie_word_embeddings": True},
        "last_layer_sliding": _WINDOWED | {"max_window_layers": 1},
        "layer_types": _WINDOWED | {"layer_types": [FULL, SLIDING, FULL], "num_hidden_layers": 3},
        "linear_scaling": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        "dynamic_scaling_past_its_length": {
            "rope_scaling": {"rope_type": "dynamic", "factor": 2.0},
            "max_position_embeddings": 7,
        },
        "yarn": {"rope_scaling": YARN_BLENDED},
    },
    "gemma3_text": {
        "mixed_layers": {},
        "pattern_of_two": {"layer_types": None, "sliding_window_pattern": 2},
        "pattern_of_six": {"layer_types": None},
        "full_layers_only": {"layer_types": [FULL] * 3},
        "one_wide_key_head": _ONE_WIDE_KEY_HEAD | {"query_pre_attn_scalar": 33},
        "untied_and_biased": {"tie_word_embeddings": False, "attention_bias": True},
        "capped_logits": {"final_logit_softcapping": 3.0},
        "other_bases": {"rope_theta": 5000.0, "rope_local_base_freq": 100.0},
        "linear_scaling_of_full_layers": {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        "scaling_of_both_kinds": {
            "rope_parameters": {
                FULL: YARN_BLENDED | {"rope_theta": 1e6},
                SLIDING: LLAMA3 | {"rope_theta": 1e4},
            }
        },
    },
    "gpt2": {
        "tied": {},
        "untied": {"tie_word_embeddings": False},
        "inner_size_left_out": {"n_inner": None},
        "other_epsilon": {"layer_norm_epsilon": 1e-2, "n_layer": 3},
        "odd_head_size": {"n_embd": 45, "n_head": 3, "vocab_size": 83},
    },
}
CASES = [(model_type, name) for model_type, variants in CONFIGS.items() for name in variants]
POSITIONS = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), (2, LENGTH))
# One row is prefilled short of a window and decodes over its border, the other is prefilled past it.
PREFILLED = np.asarray([[WINDOW - 1], [LENGTH - 3]])


def _fields_of(model_type: str, name: str) -> dict[str, Any]:
    """The fields of one case's config."""
    return BASES[model_type] | CONFIGS[model_type][name]


@pytest.fixture
def peer(transformers: ModuleType, tmp_path: Path) -> Callable[[str, str], Peer]:
    def make(model_type: str, name: str) -> Peer:
        # Small shards for some, so that the sharded path is read too.
        shard = "40KB" if "odd" in name else "1GB"
        seed = CASES.index((model_type, name))
        return save_peer(model_type, _fields_of(model_type, name), tmp_path, seed=seed, length=LENGTH, shard=shard)

    return make


def _whole(decoder: Decoder, tokens: NDArray[np.int32]) -> jax.Array:
    return decoder(jnp.asarray(tokens), jnp.asarray(POSITIONS))


@pytest.fixture
def operation_by_operation() -> Iterator[None]:
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.disable_jit():
        yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.usefixtures("operation_by_operation")
@pytest.mark.parametrize(("model_type", "name"), CASES, ids=lambda value: value)
def test_logits_equal_those_of_transformers(
    model_type: str, name: str, peer: Callable[[str, str], Peer], tmp_path: Path
) -> None:
    theirs = peer(model_type, name)
    assert 1 < np.abs(theirs.logits).max() < 100  # logits that vanish would agree with anything
    ours = read_ours(theirs.directory)
    assert ours.config.parameter_count == sum(value.size for value in parameters_of(ours).values())
    ours = jax.tree.map(np.asarray, ours)  # slicing layers out of NumPy's arrays compiles nothing
    np.testing.assert_allclose(_whole(ours, theirs.tokens), theirs.logits, atol=1e-4)
    if "past_its_length" in name:
        with pytest.raises(InvalidInput, match="max_position_embeddings"):
            init_cache(ours.config, slots=2, capacity=LENGTH)
    else:
        agree_when_cached(ours, theirs, PREFILLED)
    read_back(ours, theirs, tmp_path / "exported")


def test_compiled_logits_of_mixed_layers_equal_those_of_transformers(peer: Callable[[str, str], Peer]) -> None:
    theirs = peer("gemma3_text", "mixed_layers")
    ours = read_ours(theirs.directory)
    np.testing.assert_allclose(jax.jit(_whole)(ours, theirs.tokens), theirs.logits, atol=1e-4)
    agree_when_cached(ours, theirs, PREFILLED, compiled=True)
