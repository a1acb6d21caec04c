"""Blockwise attention over the cache equals dense masked attention, whatever the capacity and the neighbours."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tunix_rt.models.cached import BLOCK, attend_cached

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def arrays(slots: int, length: int, capacity: int, heads: int = 2, groups: int = 3, size: int = 8) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(capacity), 3)
    shapes = [(slots, length, heads, groups, size), (slots, heads, capacity, size), (slots, heads, capacity, size)]
    return [jax.random.normal(key, shape, jnp.float32) for key, shape in zip(keys, shapes, strict=True)]


@pytest.mark.parametrize("capacity", [5, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 3 * BLOCK])
def test_it_equals_dense_attention(capacity: int) -> None:
    query, keys, values = arrays(4, 3, capacity)
    positions = jnp.asarray([[0, 1, 2], [2, 3, 4], [capacity - 3, capacity - 2, capacity - 1], [1, -1, -1]], jnp.int32)
    mask = jnp.arange(capacity)[None, None] <= jnp.maximum(positions, 0)[:, :, None]
    expected = jax.nn.dot_product_attention(
        query.reshape(4, 3, 6, 8), keys.swapaxes(1, 2), values.swapaxes(1, 2), mask=mask[:, None]
    ).reshape(query.shape)
    real = np.asarray(positions >= 0)
    np.testing.assert_allclose(
        np.asarray(attend_cached(query, keys, values, positions))[real],
        np.asarray(expected)[real],
        rtol=2e-5,
        atol=2e-6,
    )


def test_a_row_has_the_same_bits_however_far_its_neighbours_have_come() -> None:
    query, keys, values = arrays(2, 1, 4 * BLOCK)
    attend = jax.jit(attend_cached)
    alone = np.asarray(attend(query, keys, values, jnp.asarray([[10], [-1]], jnp.int32)))[0]
    for other in (0, BLOCK, 4 * BLOCK - 1):
        crowded = np.asarray(attend(query, keys, values, jnp.asarray([[10], [other]], jnp.int32)))[0]
        assert crowded.tobytes() == alone.tobytes()


def test_padding_alone_is_finite() -> None:
    query, keys, values = arrays(2, 2, 16)
    assert np.isfinite(np.asarray(attend_cached(query, keys, values, jnp.full((2, 2), -1, jnp.int32)))).all()
