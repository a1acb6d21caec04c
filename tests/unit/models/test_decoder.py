"""The decoder's masks and its cache, against the same decoder used the plain way."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tunix_rt.models.attention import QUERY_BLOCK, causal_attention, packed_causal_mask
from tunix_rt.models.cached import BLOCK, attend_cached, decode_weights, forward_cached, init_cache, logits_of
from tunix_rt.models.config import ModelConfig, RopeScaling
from tunix_rt.models.decoder import Decoder, embed

CONFIG = ModelConfig(
    vocab_size=50,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    tie_word_embeddings=True,
    initializer_range=0.3,
)
DECODER = Decoder(CONFIG, rngs=nnx.Rngs(0))
TOKENS = np.random.default_rng(0).integers(0, 50, (2, 10)).astype(np.int32)
POSITIONS = np.broadcast_to(np.arange(10, dtype=np.int32), (2, 10))


def test_mask_is_causal_and_block_diagonal() -> None:
    mask = packed_causal_mask(0, 4, jnp.asarray([[1, 1, 2, 2]]))
    assert mask[0].astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


def test_mask_of_a_window_sees_the_last_positions_of_its_segment() -> None:
    mask = packed_causal_mask(0, 5, jnp.asarray([[1, 1, 1, 2, 2]]), window=2)
    assert mask[0].astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]


def test_a_window_leaves_out_what_lies_in_earlier_blocks_of_the_cache() -> None:
    """More than two blocks of cache, rows far apart and one of them padding: the blocks before every window are not
    even looked at."""
    rng = np.random.default_rng(0)
    slots, window, capacity = 3, 20, 3 * BLOCK - 10
    query = jnp.asarray(rng.normal(size=(slots, 1, 1, 2, 4)), jnp.float32)
    keys, values = (jnp.asarray(rng.normal(size=(slots, 1, capacity, 4)), jnp.float32) for _ in range(2))
    positions = np.asarray([[capacity - 1], [BLOCK + 30], [-1]], np.int32)
    distance = positions[:, :, None] - np.arange(capacity)
    mask = jnp.asarray((distance >= 0) & (distance < window))
    expected = jax.nn.dot_product_attention(
        query[:, :, 0], keys.swapaxes(1, 2), values.swapaxes(1, 2), mask=mask[:, None], scale=0.3
    )[:, :, None]
    poisoned = keys.at[:, :, :BLOCK].set(jnp.nan)
    found = attend_cached(query, poisoned, values, positions, window=window, scale=0.3)
    np.testing.assert_allclose(found[:2], expected[:2], atol=1e-6)
    alone = attend_cached(query[:1], keys[:1], values[:1], positions[:1], window=window, scale=0.3)
    np.testing.assert_array_equal(alone[0], attend_cached(query, keys, values, positions, window=window, scale=0.3)[0])


@pytest.mark.parametrize(
    ("length", "dtype", "tolerance"),
    [(QUERY_BLOCK - 3, "float32", 2e-5), (2 * QUERY_BLOCK + 5, "float32", 2e-5), (QUERY_BLOCK + 9, "bfloat16", 0.06)],
)
def test_attention_and_its_gradient_are_those_of_plain_softmax(length: int, dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    query = jnp.asarray(rng.normal(size=(2, length, 2, 3, 4)), dtype)
    key, value = (jnp.asarray(rng.normal(size=(2, 2, length, 4)), dtype) for _ in range(2))
    weights = jnp.asarray(rng.normal(size=query.shape), jnp.float32)
    segments = jnp.asarray([np.arange(length) // 70, np.arange(length) // 200])
    mask = packed_causal_mask(0, length, segments, window=100)

    def plain(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        heads = query.reshape(2, length, 6, 4)
        found = jax.nn.dot_product_attention(heads, key.swapaxes(1, 2), value.swapaxes(1, 2), mask=mask[:, None])
        return jnp.sum(found.reshape(query.shape) * weights)

    def ours(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return jnp.sum(causal_attention(query, key, value, segments, window=100) * weights)

    wide = [array.astype(jnp.float32) for array in (query, key, value)]
    total, gradients = jax.jit(jax.value_and_grad(ours, (0, 1, 2)))(query, key, value)
    plain_total, plain_gradients = jax.jit(jax.value_and_grad(plain, (0, 1, 2)))(*wide)
    np.testing.assert_allclose(total, plain_total, rtol=100 * tolerance if dtype == "bfloat16" else 1e-5)
    for found, expected in zip(gradients, plain_gradients, strict=True):
        assert found.dtype == query.dtype
        np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=tolerance)
    # For the gradient nothing is kept that has a score for every pair of positions.
    _, pull = jax.eval_shape(lambda *arrays: jax.vjp(ours, *arrays), query, key, value)
    assert max(array.size for array in jax.tree.leaves(pull)) < length * length


def test_packed_examples_have_the_logits_of_separate_ones() -> None:
    alone = DECODER(TOKENS, POSITIONS)
    tokens = TOKENS.reshape(1, 20)
    packed = DECODER(tokens, POSITIONS.reshape(1, 20), jnp.repeat(jnp.asarray([[1, 2]]), 10, axis=1))
    np.testing.assert_allclose(packed.reshape(2, 10, 50), alone, atol=1e-5)


def test_packed_examples_of_a_mixed_model_have_the_logits_of_separate_ones() -> None:
    """Windows, two rotary bases and a length-dependent one are an example's own, however it is packed."""
    config = dataclasses.replace(
        CONFIG,
        family="gemma3",
        layer_types=("sliding_attention", "full_attention"),
        sliding_window=3,
        sliding_rope_theta=100.0,
        max_position_embeddings=5,
        rope_scaling=RopeScaling("dynamic", 4.0),
    )
    decoder = Decoder(config, rngs=nnx.Rngs(0))
    alone = decoder(TOKENS[:1, :7], POSITIONS[:1, :7])
    segments = jnp.asarray([[1] * 7 + [2] * 10 + [0] * 3])
    tokens = np.concatenate([TOKENS[:1, :7], TOKENS[1:], np.zeros((1, 3), np.int32)], axis=1)
    positions = np.concatenate([POSITIONS[:1, :7], POSITIONS[1:], np.zeros((1, 3), np.int32)], axis=1)
    packed = decoder(tokens, positions, segments)
    np.testing.assert_allclose(packed[:, :7], alone, atol=1e-5)
    np.testing.assert_allclose(packed[:, 7:17], decoder(TOKENS[1:], POSITIONS[1:]), atol=1e-5)


def test_a_position_past_a_learned_table_is_not_a_number() -> None:
    table = jnp.zeros((4, 24))
    config = dataclasses.replace(CONFIG, family="gpt2", num_key_value_heads=4, max_position_embeddings=4)
    x = embed(config, jnp.ones((50, 24)), table, jnp.asarray([[1, 1]]), jnp.asarray([[3, 4]]), jnp.dtype("float32"))
    assert np.isfinite(x[0, 0]).all() and np.isnan(x[0, 1]).all()


def test_gemma_scales_embeddings_by_a_rounded_root() -> None:
    """√1152 = 33.94 is 34 in bfloat16, as in the models that were trained so."""
    config = dataclasses.replace(CONFIG, family="gemma3", hidden_size=1152)
    one = jnp.ones((50, 1152)), None, jnp.asarray([[1]]), jnp.asarray([[0]])
    assert float(embed(config, *one, jnp.dtype("bfloat16"))[0, 0, 0]) == 34.0
    assert float(embed(config, *one, jnp.dtype("float32"))[0, 0, 0]) == pytest.approx(1152**0.5)


def test_padding_after_an_example_changes_nothing() -> None:
    alone = DECODER(TOKENS[:, :6], POSITIONS[:, :6])
    segments = np.where(np.arange(10) < 6, 1, 0)[None].repeat(2, axis=0)
    padded = DECODER(TOKENS, POSITIONS, jnp.asarray(segments))
    np.testing.assert_allclose(padded[:, :6], alone, atol=1e-5)
    assert np.isfinite(np.asarray(padded)).all()


def test_remat_gives_the_same_gradient() -> None:
    def loss(decoder: Decoder, remat: bool) -> jax.Array:
        return jnp.square(decoder.logits(decoder.hidden(TOKENS, POSITIONS, remat=remat))).mean()

    kept, recomputed = (jax.grad(loss)(DECODER, remat) for remat in (False, True))
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(recomputed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32() -> None:
    low = Decoder(dataclasses.replace(CONFIG, compute_dtype="bfloat16"), rngs=nnx.Rngs(0))
    assert low.hidden(TOKENS, POSITIONS).dtype == jnp.bfloat16
    logits, full = low(TOKENS, POSITIONS), DECODER(TOKENS, POSITIONS)
    assert logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(low))
    assert 0 < np.abs(logits - full).max() < 0.05 * np.abs(full).max()


def test_cached_rows_at_different_positions_equal_whole_sequences() -> None:
    """Row 0 is prefilled with 7 tokens, row 1 with 4 and padding; then both decode one at a time, in step."""
    weights, cache = decode_weights(DECODER), init_cache(CONFIG, slots=2, capacity=16)
    full = np.asarray(DECODER(TOKENS, POSITIONS))
    positions = np.where(np.arange(7) < np.asarray([[7], [4]]), np.arange(7), -1).astype(np.int32)
    hidden, cache = forward_cached(weights, CONFIG, TOKENS[:, :7], positions, cache)
    logits = np.asarray(logits_of(weights, CONFIG, hidden))
    np.testing.assert_allclose(logits[0], full[0, :7], atol=1e-5)
    np.testing.assert_allclose(logits[1, :4], full[1, :4], atol=1e-5)
    for step in range(3):
        at = np.asarray([[7 + step], [4 + step]], dtype=np.int32)
        hidden, cache = forward_cached(weights, CONFIG, np.take_along_axis(TOKENS, at, axis=1), at, cache)
        logits = np.asarray(logits_of(weights, CONFIG, hidden))
        np.testing.assert_allclose(logits[0, 0], full[0, 7 + step], atol=1e-5)
        np.testing.assert_allclose(logits[1, 0], full[1, 4 + step], atol=1e-5)


def test_padding_writes_nothing_into_the_cache() -> None:
    weights, cache = decode_weights(DECODER), init_cache(CONFIG, slots=2, capacity=8)
    _, cache = forward_cached(weights, CONFIG, TOKENS[:, :5], np.full((2, 5), -1, np.int32), cache)
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(cache))


def test_a_reused_slot_does_not_see_its_predecessor() -> None:
    weights, cache = decode_weights(DECODER), init_cache(CONFIG, slots=2, capacity=16)
    fresh, _ = forward_cached(weights, CONFIG, TOKENS[:, :3], POSITIONS[:, :3], cache)
    _, used = forward_cached(weights, CONFIG, TOKENS[::-1], POSITIONS, cache)
    again, _ = forward_cached(weights, CONFIG, TOKENS[:, :3], POSITIONS[:, :3], used)
    np.testing.assert_array_equal(again, fresh)
