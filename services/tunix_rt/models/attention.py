"""Masked grouped-query attention over dense arrays: the softmax that training and cached decoding share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

_UNSEEN = float(np.finfo(np.float32).min)


def packed_causal_mask(length: int, segment_ids: jax.Array | None) -> jax.Array:
    """Which positions of a row may attend to which: [B or 1, T, T] bool, axis 1 the query, axis 2 the key.

    ``segment_ids`` [B, T] i32 keeps packed examples apart (block-diagonal); padding shares one id, conventionally 0,
    so that every query sees at least itself.
    """
    index = jnp.arange(length)
    causal = (index[:, None] >= index[None, :])[None]
    if segment_ids is None:
        return causal
    return causal & (segment_ids[:, :, None] == segment_ids[:, None, :])


def masked_attention(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
    """Softmax attention with scores in float32; key heads are shared by broadcasting, never repeated in memory.

    query [B, T, KV, G, D]; key, value [B, KV, C, D]; mask [B or 1, T, C] → [B, T, KV, G, D] in the query's dtype.
    """
    batch, length, kv_heads, groups, size = query.shape
    # Queries of a group are rows of one matrix, so that each (batch, key head) is one plain matrix product.
    rows = query.transpose(0, 2, 3, 1, 4).reshape(batch, kv_heads, groups * length, size)
    scores = jnp.einsum("bkqd,bkcd->bkqc", rows, key, preferred_element_type=jnp.float32) * size**-0.5
    seen = jnp.tile(mask, (1, groups, 1))[:, None]  # [B or 1, 1, G * T, C]
    weights = jax.nn.softmax(jnp.where(seen, scores, _UNSEEN), axis=-1).astype(value.dtype)
    context = jnp.einsum("bkqc,bkcd->bkqd", weights, value)
    return context.reshape(batch, kv_heads, groups, length, size).transpose(0, 3, 1, 2, 4)
