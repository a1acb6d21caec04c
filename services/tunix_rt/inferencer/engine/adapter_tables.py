"""Adapters side by side in tables, and a model that picks each slot's own. Pure; knows no names and no requests.

Every linear layer of the family has a table, so that the shapes do not depend on what an adapter targets: a layer that
it leaves alone gets zeros, and so do the columns between its rank and the tables'.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from tunix_rt.inferencer.engine.interface import AdapterFactors
from tunix_rt.models.adapters import linear_shapes
from tunix_rt.models.cached import Weights
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.layers import Linear, replace_linear

_F32 = 4


class Table(NamedTuple):
    """The factors of N adapters of rank r for one linear layer of one decoder layer."""

    a: jax.Array  # [N, in, r]
    b: jax.Array  # [N, r, out], scaling included


# By the path of the linear layer, one table a decoder layer. A pytree.
AdapterTables: TypeAlias = dict[str, tuple[Table, ...]]


def empty_tables(config: ModelConfig, places: int, rank: int) -> AdapterTables:
    """Tables of zeros for ``places`` adapters."""
    return {
        path: tuple(
            Table(jnp.zeros((places, inputs, rank), jnp.float32), jnp.zeros((places, rank, outputs), jnp.float32))
            for _ in range(layers)
        )
        for path, (layers, inputs, outputs) in linear_shapes(config).items()
    }


def tables_bytes(config: ModelConfig, places: int, rank: int) -> int:
    """What `empty_tables` take, without making them."""
    numbers = sum(layers * (inputs + outputs) for layers, inputs, outputs in linear_shapes(config).values())
    return places * rank * numbers * _F32


def with_adapter(tables: AdapterTables, place: int, factors: AdapterFactors) -> AdapterTables:
    """A copy of ``tables`` with another adapter at ``place``. Raises `ValueError` for what has no place in them."""
    surplus = factors.by_layer.keys() - tables.keys()
    if surplus:
        raise ValueError(f"the model has no {', '.join(sorted(surplus))}")
    return {path: _replaced(of_path, place, factors.by_layer.get(path)) for path, of_path in tables.items()}


def _replaced(
    of_path: tuple[Table, ...], place: int, pair: tuple[NDArray[np.float32], NDArray[np.float32]] | None
) -> tuple[Table, ...]:
    _, inputs, rank = of_path[0].a.shape
    outputs = of_path[0].b.shape[-1]
    a, b = np.zeros((len(of_path), inputs, rank), np.float32), np.zeros((len(of_path), rank, outputs), np.float32)
    if pair is not None:
        own = pair[0].shape[-1]
        a[..., :own], b[:, :own] = pair
    return tuple(
        Table(_with_row(table.a, a[layer], np.int32(place)), _with_row(table.b, b[layer], np.int32(place)))
        for layer, table in enumerate(of_path)
    )


@jax.jit
def _with_row(table: jax.Array, row: jax.Array, place: jax.Array) -> jax.Array:
    """Not in place: the engine may be reading the old table."""
    updated: jax.Array = jax.lax.dynamic_update_index_in_dim(table, row, place, 0)
    return updated


def with_adapters(weights: Weights, tables: AdapterTables, places: jax.Array) -> Weights:
    """``weights`` whose linear layers add to row s what the adapter at ``places[s]`` ([S] i32) makes of it.

    For use inside a compiled program: the blocks of ``weights`` are changed, and must not outlive it.
    """

    def adapted(table: Table, linear: Linear) -> AdaptedLinear:
        if places.shape[0] < table.a.shape[0]:
            # Picked here, and so once: outside of the loop over steps that may follow.
            return AdaptedLinear(linear, table.a[places], table.b[places], None)
        return AdaptedLinear(linear, table.a, table.b, places)

    for path, of_path in tables.items():
        for block, table in zip(weights.blocks, of_path, strict=True):
            replace_linear(block, path, partial(adapted, table))
    return weights


class AdaptedLinear(nnx.Module):
    """A linear layer, whatever its weights are made of, and low-rank factors beside it.

    ``places`` [S] says which of the factors [N, …] are row s's; None: there is a pair for each row.
    """

    def __init__(self, linear: Linear, a: jax.Array, b: jax.Array, places: jax.Array | None) -> None:
        self.linear, self.a, self.b, self.places = linear, nnx.data(a), nnx.data(b), nnx.data(places)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[S, T, in] → [S, T, out].

        With ``places`` every adapter is applied to every row, and each row keeps its own's result. That is cheaper
        than copying the factors of each row together, which are many times its activations. Each adapter is a product
        of its own (a batch, not one wide matrix): neither its place nor the others can be seen in the bits.
        """
        if self.places is None:
            return self.linear(x) + _low_rank(x, self.a, self.b)
        slots, length, inputs = x.shape
        count = self.a.shape[0]
        rows = jnp.broadcast_to(x.reshape(1, slots * length, inputs), (count, slots * length, inputs))
        each = _low_rank(rows, self.a, self.b).reshape(count, slots, length, -1)
        own = (self.places == jnp.arange(count)[:, None])[:, :, None, None]
        return self.linear(x) + jnp.sum(jnp.where(own, each, 0), axis=0)


def _low_rank(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """x [B, T, in], a [B, in, r], b [B, r, out] → [B, T, out]."""
    return jnp.einsum("btr,bro->bto", jnp.einsum("bti,bir->btr", x, a), b)
