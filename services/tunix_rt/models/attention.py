"""Masked grouped-query attention over dense arrays: the softmax of whole sequences."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Added to a score that must not count: its exponential is 0, and no sum with a score overflows.
_UNSEEN = -1e30
# Queries worked off together; on a CPU 128 were faster than 64 and 256.
QUERY_BLOCK = 128


def packed_causal_mask(length: int, segment_ids: jax.Array | None, window: int | None = None) -> jax.Array:
    """Which positions of a row may attend to which: [B or 1, T, T] bool, axis 1 the query, axis 2 the key.

    ``segment_ids`` [B, T] i32 keeps packed examples apart (block-diagonal); padding shares one id, conventionally 0,
    so that every query sees at least itself. With a ``window`` a query sees that many positions, its own the last
    (sliding-window attention, Beltagy et al. 2020, arXiv 2004.05150).
    """
    index = jnp.arange(length)
    seen = (index[:, None] >= index[None, :])[None]
    if window is not None:
        seen = seen & (index[:, None] - index[None, :] < window)
    if segment_ids is None:
        return seen
    return seen & (segment_ids[:, :, None] == segment_ids[:, None, :])


def causal_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array, *, scale: float | None = None
) -> jax.Array:
    """`masked_attention` of a row over itself, for a ``mask`` [B or 1, T, T] that is causal.

    Queries are taken in blocks of `QUERY_BLOCK`, each against the keys up to its own end: the half of the score matrix
    that no mask leaves visible is, but for the blocks on the diagonal, neither computed nor stored.
    """
    length = query.shape[1]
    ends = [min(start + QUERY_BLOCK, length) for start in range(0, length, QUERY_BLOCK)]
    parts = [
        masked_attention(query[:, start:end], key[:, :, :end], value[:, :, :end], mask[:, start:end, :end], scale=scale)
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)


def masked_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array, *, scale: float | None = None
) -> jax.Array:
    """Softmax attention with scores in float32; key heads are shared by broadcasting, never repeated in memory.

    query [B, T, KV, G, D]; key, value [B, KV, C, D]; mask [B or 1, T, C] → [B, T, KV, G, D] in the query's dtype.
    Scores are multiplied with ``scale``, 1/√D where it is None (Vaswani et al. 2017, arXiv 1706.03762, equation 1).
    """
    batch, length, kv_heads, groups, size = query.shape
    # Queries of a group are rows of one matrix, so that each (batch, key head) is one plain matrix product.
    rows = query.transpose(0, 2, 3, 1, 4).reshape(batch, kv_heads, groups * length, size)
    scores = jnp.einsum("bkqd,bkcd->bkqc", rows, key, preferred_element_type=jnp.float32)
    scores = scores.reshape(batch, kv_heads, groups, length, -1) * (size**-0.5 if scale is None else scale)
    weights = _softmax(scores, jnp.where(mask, 0.0, _UNSEEN)[:, None, None]).astype(value.dtype)
    context = jnp.einsum("bkqc,bkcd->bkqd", weights.reshape(*rows.shape[:3], -1), value)
    return context.reshape(batch, kv_heads, groups, length, size).transpose(0, 3, 1, 2, 4)


@jax.custom_vjp
def _softmax(scores: jax.Array, bias: jax.Array) -> jax.Array:
    """Softmax of ``scores + bias`` over the last axis. The gradient is written by hand, in terms of the result alone:
    autodiff of the stable form walks through its maximum too, at a third of the attention's cost on a CPU."""
    shifted = scores + bias
    exponentials = jnp.exp(shifted - jnp.max(shifted, axis=-1, keepdims=True))
    return exponentials / jnp.sum(exponentials, axis=-1, keepdims=True)


def _softmax_kept(scores: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array]:
    weights = _softmax(scores, bias)
    return weights, weights


def _softmax_slope(weights: jax.Array, slope: jax.Array) -> tuple[jax.Array, None]:
    product = weights * slope
    return product - weights * jnp.sum(product, axis=-1, keepdims=True), None


_softmax.defvjp(_softmax_kept, _softmax_slope)
