"""Tables of stacked adapters, and a model that selects the adapter of each slot. Pure.

Every linear layer has a table, so shapes do not depend on an adapter's target modules. Layers that an adapter does not
target, and columns above its rank, are zero.
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


# By path of the linear layer, one table per decoder layer. A pytree.
AdapterTables: TypeAlias = dict[str, tuple[Table, ...]]


def empty_tables(config: ModelConfig, adapters: int, rank: int) -> AdapterTables:
    """Tables of zeros for this number of ``adapters``."""
    return {
        path: tuple(
            Table(jnp.zeros((adapters, inputs, rank), jnp.float32), jnp.zeros((adapters, rank, outputs), jnp.float32))
            for _ in range(layers)
        )
        for path, (layers, inputs, outputs) in linear_shapes(config).items()
    }


def tables_bytes(config: ModelConfig, adapters: int, rank: int) -> int:
    """Bytes of `empty_tables`. Allocates nothing."""
    numbers = sum(layers * (inputs + outputs) for layers, inputs, outputs in linear_shapes(config).values())
    return adapters * rank * numbers * _F32


def with_adapter(tables: AdapterTables, index: int, factors: AdapterFactors) -> AdapterTables:
    """A copy of ``tables`` with the adapter at ``index`` replaced. Raises `ValueError` for unknown layers."""
    surplus = factors.by_layer.keys() - tables.keys()
    if surplus:
        raise ValueError(f"the model has no {', '.join(sorted(surplus))}")
    return {path: _replaced(of_path, index, factors.by_layer.get(path)) for path, of_path in tables.items()}


def _replaced(
    of_path: tuple[Table, ...], index: int, pair: tuple[NDArray[np.float32], NDArray[np.float32]] | None
) -> tuple[Table, ...]:
    _, inputs, rank = of_path[0].a.shape
    outputs = of_path[0].b.shape[-1]
    a, b = np.zeros((len(of_path), inputs, rank), np.float32), np.zeros((len(of_path), rank, outputs), np.float32)
    if pair is not None:
        own = pair[0].shape[-1]
        a[..., :own], b[:, :own] = pair
    return tuple(
        Table(_with_row(table.a, a[layer], np.int32(index)), _with_row(table.b, b[layer], np.int32(index)))
        for layer, table in enumerate(of_path)
    )


@jax.jit
def _with_row(table: jax.Array, row: jax.Array, index: jax.Array) -> jax.Array:
    """A copy: the engine may be reading the old table."""
    updated: jax.Array = jax.lax.dynamic_update_index_in_dim(table, row, index, 0)
    return updated


def with_adapters(weights: Weights, tables: AdapterTables, indices: jax.Array) -> Weights:
    """``weights`` whose linear layers apply to row s the adapter ``indices[s]`` ([S] i32).

    For use inside a compiled program: the blocks of ``weights`` are modified and must not outlive it.
    """

    def adapted(table: Table, linear: Linear) -> AdaptedLinear:
        if indices.shape[0] < table.a.shape[0]:
            # Gathered here, once, and not in the loop over steps that may follow.
            return AdaptedLinear(linear, table.a[indices], table.b[indices], None)
        return AdaptedLinear(linear, table.a, table.b, indices)

    for path, of_path in tables.items():
        for block, table in zip(weights.blocks, of_path, strict=True):
            replace_linear(block, path, partial(adapted, table))
    return weights


class AdaptedLinear(nnx.Module):
    """A linear layer of any weight format, with low-rank factors.

    ``indices`` [S] selects the factors [N, …] of each row; None: one pair of factors per row.
    """

    def __init__(self, linear: Linear, a: jax.Array, b: jax.Array, indices: jax.Array | None) -> None:
        self.linear, self.a, self.b, self.indices = linear, nnx.data(a), nnx.data(b), nnx.data(indices)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[S, T, in] → [S, T, out].

        With ``indices`` every adapter is applied to every row, and each row keeps the result of its own. That is
        cheaper than gathering each row's factors, which are many times larger than its activations. Each adapter is a
        separate product (a batch, not one wide matrix), so the bits depend neither on its index nor on the others.
        """
        if self.indices is None:
            return self.linear(x) + _low_rank(x, self.a, self.b)
        slots, length, inputs = x.shape
        count = self.a.shape[0]
        rows = jnp.broadcast_to(x.reshape(1, slots * length, inputs), (count, slots * length, inputs))
        each = _low_rank(rows, self.a, self.b).reshape(count, slots, length, -1)
        own = (self.indices == jnp.arange(count)[:, None])[:, :, None, None]
        return self.linear(x) + jnp.sum(jnp.where(own, each, 0), axis=0)


def _low_rank(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """x [B, T, in], a [B, in, r], b [B, r, out] → [B, T, out]."""
    return jnp.einsum("btr,bro->bto", jnp.einsum("bti,bir->btr", x, a), b)
