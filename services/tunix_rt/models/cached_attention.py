"""Attention of new tokens over a key/value cache, at a cost that follows the positions in use and not the capacity.

Works through the cache block by block with a running softmax (Milakov & Gimelshein 2018, arXiv 1805.02867) and stops
behind the furthest position of any row; with a sliding window it starts at the first block that any row sees. A block
of which a row sees nothing changes that row's sums by exactly nothing (maximum kept, factor exp(0) = 1, addends 0), so
that a row's result does not depend on how far the others have come.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Small blocks waste little on short rows; on a CPU 32 to 64 positions were fastest for 1M and 135M parameters alike.
BLOCK = 64


def attend_cached(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    positions: jax.Array,
    *,
    window: int | None = None,
    scale: float | None = None,
) -> jax.Array:
    """Each query's mix of the cached values at positions ≤ its own, of the ``window`` last of them where one is given.

    query [S, T, KV, G, D]; keys, values [S, KV, C, D]; positions [S, T] i32, < 0 for padding (meaningless).
    Returns [S, T, KV, G, D] in the query's dtype; scores, multiplied with ``scale`` (None: 1/√D), and sums are float32.
    """
    slots, length, heads, groups, size = query.shape
    capacity = keys.shape[2]
    block = min(BLOCK, capacity)
    rows = query.transpose(0, 2, 3, 1, 4).reshape(slots, heads, groups * length, size)  # [S, KV, G*T, D]
    own = jnp.tile(jnp.maximum(positions, 0), (1, groups))[:, None, :, None]  # [S, 1, G*T, 1]
    lowest = jnp.float32(-3.4028235e38)
    factor = size**-0.5 if scale is None else scale

    def add_block(
        index: jax.Array, sums: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        highest, total, mixed = sums
        # The last block of a capacity that is no multiple overlaps the one before; what that one had is masked.
        start = jnp.minimum(index * block, capacity - block)
        key = jax.lax.dynamic_slice_in_dim(keys, start, block, axis=2)
        value = jax.lax.dynamic_slice_in_dim(values, start, block, axis=2)
        at = start + jnp.arange(block)
        visible = (at <= own) & (at >= index * block)  # [S, 1, G*T, block]
        if window is not None:
            visible &= at > own - window
        scores = jnp.einsum("skrd,skcd->skrc", rows, key, preferred_element_type=jnp.float32) * factor
        scores = jnp.where(visible, scores, lowest)
        new_highest = jnp.maximum(highest, jnp.max(scores, axis=-1))
        rescale = jnp.exp(highest - new_highest)
        weights = jnp.where(visible, jnp.exp(scores - new_highest[..., None]), 0)
        added = jnp.einsum("skrc,skcd->skrd", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
        return new_highest, total * rescale + jnp.sum(weights, axis=-1), mixed * rescale[..., None] + added

    shape = (slots, heads, groups * length)
    nothing = (jnp.full(shape, lowest), jnp.zeros(shape, jnp.float32), jnp.zeros((*shape, size), jnp.float32))
    used = (jnp.max(positions) + block) // block  # blocks up to the furthest position; 0 when all is padding
    first: int | jax.Array = 0
    if window is not None:
        earliest = jnp.min(jnp.where(positions < 0, capacity, positions))
        first = jnp.maximum(earliest - window + 1, 0) // block
    _, total, mixed = jax.lax.fori_loop(first, used, add_block, nothing)
    context: jax.Array = mixed / jnp.maximum(total, 1e-30)[..., None]
    return context.reshape(slots, heads, groups, length, size).transpose(0, 3, 1, 2, 4).astype(query.dtype)
