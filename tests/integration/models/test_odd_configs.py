"""Twenty random configs of each family that came after the first five: logits, gradients and cached decoding are those
of Transformers, from its own files, and Transformers reads ours.

Sizes are odd, options are drawn together. Three of each family run every day, the others with the slow tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
from tests.integration.models.random_peers import (
    STEPS,
    agree_in_training,
    agree_when_cached,
    read_back,
    read_ours,
    save_peer,
)

from tunix_rt.errors import InvalidInput
from tunix_rt.models.cached import init_cache
from tunix_rt.models.parameters import parameters_of

LENGTH, WINDOWS = 10, (1, 2, 3, 5, 64)
FULL, SLIDING = "full_attention", "sliding_attention"
COUNT, EVERY_DAY = 20, 3
Chance = np.random.Generator


def _one(chance: Chance, values: Any) -> Any:
    """One of ``values``, as Python's own type."""
    return values[int(chance.integers(len(values)))]


def _sizes(chance: Chance) -> dict[str, Any]:
    keys, groups = _one(chance, (1, 2, 3)), _one(chance, (1, 2, 3))
    return {
        "vocab_size": int(chance.integers(29, 70)),
        "hidden_size": int(chance.integers(9, 23)),
        "intermediate_size": int(chance.integers(7, 26)),
        "num_hidden_layers": _one(chance, (1, 2, 3)),
        "num_attention_heads": keys * groups,
        "num_key_value_heads": keys,
        "head_dim": _one(chance, (4, 6, 8, 10)),
        "max_position_embeddings": 64,
        "rms_norm_eps": _one(chance, (1e-6, 1e-5, 1e-3)),
        "tie_word_embeddings": _one(chance, (True, False)),
        "bos_token_id": 0,
        "eos_token_id": _one(chance, (2, [2, 5])),
        "pad_token_id": None,
    }


def _rope(chance: Chance) -> dict[str, Any]:
    """Base and scaling, as either generation of Transformers writes them."""
    theta = _one(chance, (50.0, 10000.0, 500000.0))
    scaling = _one(
        chance,
        (
            None,
            {"rope_type": "linear", "factor": 3.0},
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 2.0},
        ),
    )
    if _one(chance, (True, False)):
        return {"rope_theta": theta, "rope_scaling": scaling}
    return {"rope_parameters": (scaling or {"rope_type": "default"}) | {"rope_theta": theta}}


def _types(chance: Chance, layers: int) -> dict[str, Any]:
    return {"layer_types": [_one(chance, (FULL, SLIDING)) for _ in range(layers)]}


def _mistral(chance: Chance) -> dict[str, Any]:
    sizes = _sizes(chance)
    if sizes["hidden_size"] % (2 * sizes["num_attention_heads"]) == 0:
        del sizes["head_dim"]
    return sizes | _rope(chance) | {"sliding_window": _one(chance, (None, *WINDOWS))}


def _smollm3(chance: Chance) -> dict[str, Any]:
    sizes = _sizes(chance)
    layers = sizes["num_hidden_layers"]
    turning = [int(turn) for turn in chance.integers(0, 2, layers + 1)]
    bare = _one(chance, ({"no_rope_layers": turning}, {"no_rope_layer_interval": 2}, {}))
    windows = {"use_sliding_window": True, "sliding_window": _one(chance, WINDOWS)}
    biases = {"attention_bias": _one(chance, (True, False)), "mlp_bias": _one(chance, (True, False))}
    return sizes | _rope(chance) | bare | biases | _one(chance, ({}, windows, windows | _types(chance, layers)))


def _gemma2(chance: Chance) -> dict[str, Any]:
    sizes = _sizes(chance)
    return (
        sizes
        | {"hidden_size": sizes["num_attention_heads"] * int(chance.integers(2, 6))}
        | _rope(chance)
        | {"query_pre_attn_scalar": int(chance.integers(3, 40)), "attention_bias": _one(chance, (True, False))}
        | _one(chance, ({}, _types(chance, sizes["num_hidden_layers"])))
        | {"sliding_window": _one(chance, WINDOWS)}
        | {"attn_logit_softcapping": _one(chance, (None, 0.5, 2.0, 50.0))}
        | {"final_logit_softcapping": _one(chance, (None, 3.0, 30.0))}
    )


def _olmo2(chance: Chance) -> dict[str, Any]:
    return _sizes(chance) | _rope(chance) | {"attention_bias": _one(chance, (True, False))}


def _phi3(chance: Chance) -> dict[str, Any]:
    sizes = _sizes(chance)
    turning = 2 * int(chance.integers(1, sizes["head_dim"] // 2 + 1))
    # A little more than the share, so that it is not rounded down to one less.
    share = min(1.0, turning / sizes["head_dim"] + 0.01)
    theta = {"rope_theta": _one(chance, (50.0, 10000.0))}
    factors = [[float(value) for value in chance.uniform(1, 5, turning // 2)] for _ in range(2)]
    longrope = {"type": "longrope", "short_factor": factors[0], "long_factor": factors[1]}
    scaled = {"rope_scaling": longrope, "original_max_position_embeddings": _one(chance, (LENGTH - 3, LENGTH, 32))}
    # Transformers counts the factors by these sizes, whatever head_dim says.
    scaled |= {"hidden_size": sizes["num_attention_heads"] * sizes["head_dim"]}
    rope = _one(chance, (theta, {"rope_parameters": theta | {"rope_type": "default"}}, theta | scaled, theta | scaled))
    return sizes | rope | {"partial_rotary_factor": share, "sliding_window": _one(chance, (None, *WINDOWS))}


def _qwen3_moe(chance: Chance) -> dict[str, Any]:
    sizes, experts = _sizes(chance), int(chance.integers(1, 7))
    dense = _one(chance, ({}, {}, {"decoder_sparse_step": 2}, {"mlp_only_layers": [0]}, {"mlp_only_layers": [1, 7]}))
    return (
        sizes
        | _rope(chance)
        | dense
        | {"num_experts": experts, "num_experts_per_tok": int(chance.integers(1, experts + 1))}
        | {"moe_intermediate_size": int(chance.integers(3, 14)), "norm_topk_prob": _one(chance, (True, False))}
        | {"use_sliding_window": _one(chance, (True, False)), "sliding_window": _one(chance, WINDOWS)}
        | {"attention_bias": _one(chance, (True, False))}
    )


FAMILIES: Mapping[str, Callable[[Chance], dict[str, Any]]] = {
    "mistral": _mistral,
    "smollm3": _smollm3,
    "gemma2": _gemma2,
    "olmo2": _olmo2,
    "phi3": _phi3,
    "qwen3_moe": _qwen3_moe,
}
CASES = [
    pytest.param(family, number, marks=() if number < EVERY_DAY else pytest.mark.slow, id=f"{family}-{number}")
    for family in FAMILIES
    for number in range(COUNT)
]


def config_of(family: str, number: int) -> dict[str, Any]:
    """The fields of this family's config with this number: always the same."""
    return FAMILIES[family](np.random.default_rng([number, *family.encode()]))


@pytest.fixture(autouse=True)
def compiled_quickly() -> Iterator[None]:
    """Programs here run once or a few times: the compiler is told not to optimise them."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize(("family", "number"), CASES)
def test_logits_gradients_decoding_and_files_are_those_of_transformers(
    family: str, number: int, transformers: ModuleType, tmp_path: Path
) -> None:
    theirs = save_peer(family, config_of(family, number), tmp_path / "theirs", seed=number, length=LENGTH)
    assert 0.1 < np.abs(theirs.logits).max() < 200  # logits that vanish would agree with anything
    ours = read_ours(theirs.directory)
    assert ours.config.parameter_count == sum(value.size for value in parameters_of(ours).values())
    agree_in_training(ours, theirs)
    prefilled = np.random.default_rng(number).integers(1, LENGTH - STEPS + 1, (2, 1))
    if ours.config.cacheable_positions < LENGTH:
        with pytest.raises(InvalidInput, match="original_max_position_embeddings"):
            init_cache(ours.config, slots=2, capacity=LENGTH)
    else:
        agree_when_cached(ours, theirs, prefilled, compiled=True)
    read_back(ours, theirs, tmp_path / "ours")
