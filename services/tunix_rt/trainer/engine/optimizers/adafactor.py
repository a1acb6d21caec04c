"""Adafactor (Shazeer & Stern 2018, arXiv 1804.04235): the second moment of a matrix as a row and a column.

As Transformers' Trainer sets it: no first moment, no relative step and no scaling by the parameter's size, so that the
run's schedule and weight decay hold. Matrices are those of one layer; vectors keep a whole second moment.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tunix_rt.trainer.engine.optimizers.leaves import Names, is_vector, like, mapped, named_leaves, unused

_DECAY: Final = 0.8
_EPSILON: Final = 1e-30
# The root mean square of an update's matrix is at most this (section 6 of the paper).
_LARGEST: Final = 1.0


class AdafactorState(NamedTuple):
    """``count`` of updates (i32), and in the structure of the parameters means of squared gradients: of a matrix
    [..., m, n] over its ``rows`` [..., m] and ``columns`` [..., n], of a vector itself in ``rows``."""

    count: jax.Array  # type: ignore[assignment]
    rows: Any
    columns: Any


def scale_by_adafactor() -> optax.GradientTransformation:
    """Gradients over the root of their factored second moments, clipped by root mean square (algorithm 4)."""

    def init(parameters: Any) -> AdafactorState:
        def rows(names: Names, leaf: jax.Array) -> jax.Array:
            return jnp.zeros(leaf.shape[:-1] if _is_factored(names, leaf) else leaf.shape, jnp.float32)

        def columns(names: Names, leaf: jax.Array) -> jax.Array:
            if not _is_factored(names, leaf):
                return unused()
            return jnp.zeros((*leaf.shape[:-2], leaf.shape[-1]), jnp.float32)

        return AdafactorState(jnp.zeros((), jnp.int32), mapped(rows, parameters), mapped(columns, parameters))

    def update(gradients: Any, state: AdafactorState, parameters: Any = None) -> tuple[Any, AdafactorState]:
        count = state.count + 1
        kept = 1 - count.astype(jnp.float32) ** -_DECAY
        stored = zip(jax.tree.leaves(state.rows), jax.tree.leaves(state.columns), strict=True)
        made: list[tuple[jax.Array, ...]] = []
        for (names, gradient), (row, column) in zip(named_leaves(gradients), stored, strict=True):
            square = jnp.square(gradient) + _EPSILON
            if _is_factored(names, gradient):
                row = kept * row + (1 - kept) * jnp.mean(square, axis=-1)
                column = kept * column + (1 - kept) * jnp.mean(square, axis=-2)
                share = row / jnp.mean(row, axis=-1, keepdims=True)
                step = gradient * jax.lax.rsqrt(share)[..., None] * jax.lax.rsqrt(column)[..., None, :]
                axes: tuple[int, ...] = (-2, -1)
            else:
                row = kept * row + (1 - kept) * square
                step, axes = gradient * jax.lax.rsqrt(row), (-1,)
            size = jnp.sqrt(jnp.mean(jnp.square(step), axis=axes, keepdims=True))
            made.append((step / jnp.maximum(1.0, size / _LARGEST), row, column))
        steps, rows, columns = (like(gradients, part) for part in zip(*made, strict=True))
        return steps, AdafactorState(count, rows, columns)

    return optax.GradientTransformation(init, update)


def _is_factored(names: Names, leaf: jax.Array) -> bool:
    return leaf.ndim >= 2 and not is_vector(names)
