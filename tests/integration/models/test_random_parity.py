"""Random models of odd shapes, of every family: our logits are those of Transformers, trained or cached, from its own
files; and Transformers reads ours.

The cases run operation by operation: compiling some fifty small programs takes longer than running them. One of them
runs compiled as well.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from tunix_rt.errors import InvalidInput
from tunix_rt.models.cached import decode_weights, forward_cached, init_cache, logits_of
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.hf_config import from_hf, to_hf
from tunix_rt.models.parameters import decoder_with, parameters_of
from tunix_rt.models.safetensors_files import open_tensors, write_tensors
from tunix_rt.models.weight_map import to_hf_tensors, to_parameters

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
STEPS = 3


def _fields_of(model_type: str, name: str) -> dict[str, Any]:
    """The fields of one case's config."""
    return BASES[model_type] | CONFIGS[model_type][name]


@dataclass(frozen=True)
class Peer:
    """A random model of Transformers, saved by itself."""

    directory: Path
    tokens: NDArray[np.int32]
    logits: NDArray[np.float32]


@pytest.fixture
def peer(transformers: ModuleType, torch: ModuleType, tmp_path: Path) -> Callable[[str, str], Peer]:
    def make(model_type: str, name: str) -> Peer:
        torch.manual_seed(CASES.index((model_type, name)))
        # Transformers writes into the dictionaries that it is given.
        config = transformers.AutoConfig.for_model(model_type, **copy.deepcopy(_fields_of(model_type, name)))
        model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
        with torch.no_grad():
            for parameter, value in model.named_parameters():
                if parameter.endswith("bias"):
                    value.normal_(0, 0.3)  # zeros would hide a bias that is not loaded
                elif "norm" in parameter or ".ln_" in parameter:  # so would ones hide a norm
                    value.uniform_(-0.5, 0.5).add_(0 if "gemma" in model_type else 1)
                else:
                    value.normal_(0, 0.2)  # large enough that a wrong layout cannot hide below the tolerance
        tokens = np.random.default_rng(0).integers(0, config.vocab_size, (2, LENGTH)).astype(np.int32)
        with torch.no_grad():
            logits = model(torch.tensor(tokens, dtype=torch.long), use_cache=False).logits.numpy()
        # Small shards for some, so that the sharded path is read too.
        model.save_pretrained(tmp_path, max_shard_size="40KB" if "odd" in name else "1GB")
        return Peer(tmp_path, tokens, logits)

    return make


def _ours(directory: Path) -> Decoder:
    config = from_hf(json.loads((directory / "config.json").read_text(encoding="utf-8")))
    shards = sorted(path.name for path in directory.glob("*.safetensors"))
    with open_tensors(directory, shards) as files:
        return decoder_with(config, to_parameters(config, files.names, files.read, layout="hf"))


def _whole(decoder: Decoder, tokens: NDArray[np.int32]) -> jax.Array:
    return decoder(jnp.asarray(tokens), jnp.asarray(POSITIONS))


def _agrees_when_cached(decoder: Decoder, theirs: Peer, step: Callable[..., Any]) -> None:
    """A prefill that is padded to the full length, then token by token."""
    config, tokens = decoder.config, theirs.tokens
    weights, cache = decode_weights(decoder), init_cache(config, slots=2, capacity=LENGTH)
    padded = np.where(POSITIONS < PREFILLED, POSITIONS, -1)
    hidden, cache = step(weights, config, jnp.asarray(tokens), jnp.asarray(padded), cache)
    logits = np.asarray(logits_of(weights, config, hidden))
    np.testing.assert_allclose(logits[padded >= 0], theirs.logits[padded >= 0], atol=1e-4)
    decoded, at = [], PREFILLED + np.arange(STEPS)
    for index in range(STEPS):
        now = at[:, index : index + 1].astype(np.int32)
        token = np.take_along_axis(tokens, now, axis=1)
        hidden, cache = step(weights, config, jnp.asarray(token), jnp.asarray(now), cache)
        decoded.append(hidden)
    logits = np.asarray(logits_of(weights, config, jnp.concatenate(decoded, axis=1)))
    np.testing.assert_allclose(logits, np.take_along_axis(theirs.logits, at[..., None], axis=1), atol=1e-4)


@pytest.fixture
def operation_by_operation() -> Iterator[None]:
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.disable_jit():
        yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.usefixtures("operation_by_operation")
@pytest.mark.parametrize(("model_type", "name"), CASES, ids=lambda value: value)
def test_logits_equal_those_of_transformers(
    model_type: str,
    name: str,
    peer: Callable[[str, str], Peer],
    transformers: ModuleType,
    torch: ModuleType,
    tmp_path: Path,
) -> None:
    theirs = peer(model_type, name)
    assert 1 < np.abs(theirs.logits).max() < 100  # logits that vanish would agree with anything
    ours = _ours(theirs.directory)
    assert ours.config.parameter_count == sum(value.size for value in parameters_of(ours).values())
    ours = jax.tree.map(np.asarray, ours)  # slicing layers out of NumPy's arrays compiles nothing
    np.testing.assert_allclose(_whole(ours, theirs.tokens), theirs.logits, atol=1e-4)
    if "past_its_length" in name:
        with pytest.raises(InvalidInput, match="max_position_embeddings"):
            init_cache(ours.config, slots=2, capacity=LENGTH)
    else:
        _agrees_when_cached(ours, theirs, forward_cached)

    exported = tmp_path / "exported"
    exported.mkdir()
    write_tensors(to_hf_tensors(ours.config, parameters_of(ours)), exported / "model.safetensors")
    (exported / "config.json").write_text(json.dumps(to_hf(ours.config)), encoding="utf-8")
    read, notes = transformers.AutoModelForCausalLM.from_pretrained(
        exported, dtype=torch.float32, output_loading_info=True
    )
    assert not notes["missing_keys"] and not notes["unexpected_keys"] and not notes["mismatched_keys"]
    with torch.no_grad():
        again = read(torch.tensor(theirs.tokens, dtype=torch.long), use_cache=False).logits.numpy()
    np.testing.assert_allclose(again, theirs.logits, atol=1e-6)
    # What Transformers makes of our config is the same config.
    read.config.save_pretrained(exported)
    document = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    assert from_hf(document) == ours.config


def test_compiled_logits_of_mixed_layers_equal_those_of_transformers(peer: Callable[[str, str], Peer]) -> None:
    theirs = peer("gemma3_text", "mixed_layers")
    ours = _ours(theirs.directory)
    np.testing.assert_allclose(jax.jit(_whole)(ours, theirs.tokens), theirs.logits, atol=1e-4)
    _agrees_when_cached(ours, theirs, jax.jit(forward_cached, static_argnums=1))
