"""Rows that pick adapters from tables compute what training computes with the adapter in place, in every family."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tunix_rt.inferencer.engine.adapter_tables import empty_tables, tables_bytes, with_adapter, with_adapters
from tunix_rt.inferencer.engine.interface import AdapterFactors
from tunix_rt.inferencer.engine.jax_engine import tree_bytes
from tunix_rt.models.adapters import adapters_of, add_adapters, factors_of
from tunix_rt.models.cached import decode_weights, forward_cached, init_cache, logits_of
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.lora_settings import LoraSettings

LENGTH, PLACES, RANK = 6, 2, 4
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"num_key_value_heads": 2},
    "llama": {},
    "gemma2": {
        "layer_types": ("sliding_attention", "full_attention"),
        "sliding_window": 4,
        "attention_softcapping": 2.0,
    },
    "gemma3": {"layer_types": ("sliding_attention", "full_attention"), "sliding_window": 4},
    "mistral": {"layer_types": ("sliding_attention",) * 2, "sliding_window": 4},
    "qwen2": {},
    "olmo2": {},
    "qwen3": {},
    "smollm3": {"unrotated_layers": (1,)},
}
# GPT-2's layers have names of their own; those of the others are llama's.
CASES = ["gpt2", *(pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES if family != "gpt2")]


def adapted(config: ModelConfig, rank: int, targets: tuple[str, ...], seed: int) -> tuple[Decoder, AdapterFactors]:
    """The same decoder each time with another adapter, and the adapter as the engine takes it."""
    decoder = Decoder(config, rngs=nnx.Rngs(1))
    settings = LoraSettings(rank, 6.0, targets)
    add_adapters(decoder, settings, seed=seed)
    noise = np.random.default_rng(seed)
    for adapter in adapters_of(decoder).values():
        adapter.b.set_value(jnp.asarray(0.3 * noise.standard_normal(adapter.b.shape), jnp.float32))
    pairs = {path: (pair.a, pair.b * np.float32(settings.scaling)) for path, pair in factors_of(decoder).items()}
    return decoder, AdapterFactors(rank, pairs)


@pytest.mark.parametrize("family", CASES)
@pytest.mark.slow
def test_each_row_has_its_own_adapter(family: Any) -> None:
    sizes = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 32}
    config = ModelConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        tie_word_embeddings=True,
        initializer_range=0.3,
        family=family,
        **{**sizes, **FAMILIES[family]},
    )
    few = ("c_attn", "mlp.c_proj") if family == "gpt2" else ("q_proj", "down_proj")
    decoders, adapters = zip(adapted(config, 4, ("all-linear",), seed=1), adapted(config, 3, few, seed=2), strict=True)
    weights = decode_weights(Decoder(config, rngs=nnx.Rngs(1)))
    tables = empty_tables(config, PLACES, RANK)
    assert tree_bytes(tables) == tables_bytes(config, PLACES, RANK)
    for place, factors in enumerate(adapters):
        tables = with_adapter(tables, place, factors)
    ids = np.random.default_rng(0).integers(0, 40, (3, LENGTH)).astype(np.int32)
    positions = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), ids.shape)

    @jax.jit
    def logits(places: Any, tokens: Any, positions: Any) -> jax.Array:
        own = with_adapters(jax.tree.map(jnp.asarray, weights), tables, places)
        hidden, _ = forward_cached(own, config, tokens, positions, init_cache(config, tokens.shape[0], 16))
        return logits_of(own, config, hidden)

    found = np.asarray(logits(np.asarray([1, 0, 1], np.int32), ids, positions))
    expected = [np.asarray(nnx.jit(decoder)(jnp.asarray(ids), jnp.asarray(positions))) for decoder in decoders]
    assert np.abs(expected[0] - expected[1]).max() > 0.5
    np.testing.assert_allclose(found, np.stack([expected[1][0], expected[0][1], expected[1][2]]), atol=1e-4)
    # One row, fewer than there are places, takes the other way.
    single = np.asarray(logits(np.asarray([0], np.int32), ids[1:2], positions[1:2]))
    np.testing.assert_allclose(single, expected[0][1:2], atol=1e-4)


def test_what_the_model_does_not_have_is_refused() -> None:
    config = ModelConfig(40, 16, 24, 1, 2, 1, 8)
    pair = np.zeros((1, 16, 1), np.float32), np.zeros((1, 1, 16), np.float32)
    with pytest.raises(ValueError, match=r"blocks\.attention\.z"):
        with_adapter(empty_tables(config, 1, 1), 0, AdapterFactors(1, {"blocks.attention.z": pair}))
