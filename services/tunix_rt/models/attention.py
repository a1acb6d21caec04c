"""Causal grouped-query attention of whole sequences, with a gradient that keeps no score matrix."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

# Added to masked scores: the exponential is 0, and no sum with a score overflows.
_MASKED = -1e30
# Queries per block. On a CPU 128 were faster than 64 and 256.
QUERY_BLOCK = 128


def soft_capped(scores: jax.Array, cap: float | None) -> jax.Array:
    """``scores`` squeezed into ±``cap`` by tanh (Bello et al. 2016, arXiv 1611.09940); None: as they are."""
    return scores if cap is None else jnp.tanh(scores / cap) * cap


def packed_causal_mask(
    start: int, end: int, segment_ids: jax.Array | None = None, window: jax.Array | int | None = None
) -> jax.Array:
    """Mask of queries ``start`` to ``end`` over the keys before ``end``: [B or 1, Q, C] bool.

    ``segment_ids`` [B, T] i32 separates packed examples (block-diagonal). Padding shares one id, conventionally 0, so
    every query sees at least itself. With a ``window`` a query sees that many positions, its own the last
    (sliding-window attention, Beltagy et al. 2020, arXiv 2004.05150).
    """
    distance = jnp.arange(start, end)[:, None] - jnp.arange(end)[None, :]
    seen = (distance >= 0)[None]
    if window is not None:
        seen = seen & (distance < window)
    if segment_ids is None:
        return seen
    return seen & (segment_ids[:, start:end, None] == segment_ids[:, None, :end])


def causal_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    segment_ids: jax.Array | None = None,
    *,
    window: jax.Array | int | None = None,
    scale: float | None = None,
    cap: float | None = None,
) -> jax.Array:
    """Causal softmax self-attention with float32 scores. Key heads are broadcast over query groups, never repeated.

    query [B, T, KV, G, D]; key, value [B, KV, T, D]; ``segment_ids`` and ``window`` as in `packed_causal_mask` →
    [B, T, KV, G, D] in the query's dtype. Scores are multiplied by ``scale``, None: 1/√D (Vaswani et al. 2017, arXiv
    1706.03762, equation 1), and `soft_capped` at ``cap``.

    Queries are processed in blocks of `QUERY_BLOCK`, each against the keys up to the block's end; later keys are never
    computed. The backward pass recomputes the weights from each query's log-sum-exp (Dao et al. 2022, arXiv
    2205.14135, appendix B): a layer keeps O(T) for it, not O(T²).
    """
    heads_first = query.transpose(0, 2, 3, 1, 4)  # [B, KV, G, T, D]
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    return _attend(heads_first, key, value, (segment_ids, window), (factor, cap)).transpose(0, 3, 1, 2, 4)


# Segment ids and window, as `packed_causal_mask` takes them.
Visible = tuple[jax.Array | None, jax.Array | int | None]
# Factor of the scores, and their soft cap.
Scale = tuple[float, float | None]
Kept = tuple[jax.Array, jax.Array, jax.Array, Visible, jax.Array, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(query: jax.Array, key: jax.Array, value: jax.Array, visible: Visible, scale: Scale) -> jax.Array:
    return _attend_and_keep(query, key, value, visible, scale)[0]


def _attend_and_keep(
    query: jax.Array, key: jax.Array, value: jax.Array, visible: Visible, scale: Scale
) -> tuple[jax.Array, Kept]:
    contexts, sums = [], []
    for start, end in _blocks(query.shape[3]):
        scores = _scores(query, key, start, end, scale) + _mask(visible, start, end)  # [B, KV, G, Q, C]
        highest = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - highest)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        mixed = _product("bkrc,bkcd->bkrd", weights.astype(value.dtype), value[:, :, :end])
        contexts.append((mixed.reshape(*scores.shape[:-1], -1) / total).astype(query.dtype))
        sums.append(highest + jnp.log(total))
    context, log_sums = jnp.concatenate(contexts, axis=3), jnp.concatenate(sums, axis=3)
    return context, (query, key, value, visible, context, log_sums)


def _slopes(scale: Scale, kept: Kept, slope: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    query, key, value, visible, context, log_sums = kept
    factor, cap = scale
    # Σ weight · d(weight) of each query, computed from the result (Dao et al. 2022, appendix B.2).
    shared = jnp.sum(context.astype(jnp.float32) * slope.astype(jnp.float32), axis=-1, keepdims=True)
    of_query = []
    of_key, of_value = jnp.zeros(key.shape, jnp.float32), jnp.zeros(value.shape, jnp.float32)
    for start, end in _blocks(query.shape[3]):
        own = (slice(None),) * 3 + (slice(start, end),)
        scores = _scores(query, key, start, end, scale)
        weights = jnp.exp(scores + _mask(visible, start, end) - log_sums[own])
        of_weights = _product("bkrd,bkcd->bkrc", slope[own], value[:, :, :end]).reshape(weights.shape)
        of_scores = weights * (of_weights - shared[own]) * factor
        if cap is not None:
            of_scores = of_scores * (1 - jnp.square(scores / cap))  # the slope of tanh
        of_scores = of_scores.astype(query.dtype)
        of_rows = _product("bkrc,bkcd->bkrd", of_scores, key[:, :, :end])
        of_query.append(of_rows.reshape(*of_scores.shape[:-1], -1).astype(query.dtype))
        of_key = of_key.at[:, :, :end].add(_product("bkrc,bkrd->bkcd", of_scores, query[own]))
        of_value = of_value.at[:, :, :end].add(_product("bkrc,bkrd->bkcd", weights.astype(slope.dtype), slope[own]))
    return jnp.concatenate(of_query, axis=3), of_key.astype(key.dtype), of_value.astype(value.dtype), None


_attend.defvjp(_attend_and_keep, _slopes)


def _blocks(length: int) -> list[tuple[int, int]]:
    return [(start, min(start + QUERY_BLOCK, length)) for start in range(0, length, QUERY_BLOCK)]


def _scores(query: jax.Array, key: jax.Array, start: int, end: int, scale: Scale) -> jax.Array:
    """Scores [B, KV, G, end - start, end], f32, of the queries of one block, before the mask."""
    factor, cap = scale
    own = query[:, :, :, start:end]
    scores = _product("bkrd,bkcd->bkrc", own, key[:, :, :end]).reshape(*own.shape[:-1], end) * factor
    return soft_capped(scores, cap)


def _mask(visible: Visible, start: int, end: int) -> jax.Array:
    """What is added to the scores of one block: [B or 1, 1, 1, end - start, end]."""
    return jnp.where(packed_causal_mask(start, end, *visible), 0.0, _MASKED)[:, None, None]


def _product(subscripts: str, *operands: jax.Array) -> jax.Array:
    """An einsum in f32 over [B, KV, …].

    The queries of a group ([B, KV, G, Q, …]) become rows of one matrix, so each (batch, key head) is one plain matrix
    product; with more axes XLA on CPU transposes first.
    """
    flat = (a.reshape(*a.shape[:2], -1, a.shape[-1]) if a.ndim == 5 else a for a in operands)
    return jnp.einsum(subscripts, *flat, preferred_element_type=jnp.float32)
