"""Adam with 8-bit moments: a quarter of the memory of the usual ones.

Block-wise dynamic quantisation of Dettmers et al. 2022 ("8-bit optimizers via block-wise quantization", arXiv
2110.02861, section 2): a block of 256 values has one float32 scale, and its values are the nearest of 256 fixed ones,
which are spaced evenly within each of seven decades. Two differences: the root of the second moment is stored, which
halves the decades that it spans, and a root above zero is never rounded to zero, so that no step is divided by epsilon
alone. As in Transformers' Trainer tables of tokens keep float32 moments; so do norm scales and biases.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from tunix_rt.trainer.engine.optimizers.leaves import Names, is_table, is_vector, like, mapped, named_leaves, unused

BLOCK: Final = 256
_DECADES: Final = 7


class EightBitState(NamedTuple):
    """``count`` of updates (i32), and in the structure of the parameters the moments and their scales.

    A moment is a u8 array of the parameter's shape with an f32 scale for each block of a layer's flattened values, or
    an f32 array with an unused scale. ``root`` is the root of the second moment.
    """

    count: jax.Array  # type: ignore[assignment]
    mean: Any
    mean_scale: Any
    root: Any
    root_scale: Any


def codes(*, signed: bool) -> NDArray[np.float32]:
    """The 256 values that a code stands for, as shares of a block's scale, ascending.

    The decade below 10⁻ᵈ has half as many values as the one above it, spaced evenly (arXiv 2110.02861, section 1.3).
    """
    values = [np.zeros(1), np.ones(1)]
    for decade in range(_DECADES):
        count = 2 ** (decade if signed else decade + 1)
        edges = np.linspace(0.1, 1.0, count + 1)
        middles = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - _DECADES + 1)
        values += [middles, -middles] if signed else [middles]
    return np.sort(np.concatenate(values)).astype(np.float32)


_SIGNED: Final = codes(signed=True)
_UNSIGNED: Final = codes(signed=False)


def quantize(array: jax.Array, table: NDArray[np.float32]) -> tuple[jax.Array, jax.Array]:
    """Codes (u8, of the array's shape) and scales ([blocks] f32) of a float32 array."""
    blocks = jnp.pad(array.reshape(-1), (0, -array.size % BLOCK)).reshape(-1, BLOCK)
    scale = jnp.max(jnp.abs(blocks), axis=-1)
    shares = blocks / jnp.where(scale > 0, scale, 1.0)[:, None]
    nearest = jnp.searchsorted(jnp.asarray((table[1:] + table[:-1]) / 2), shares)
    return nearest.astype(jnp.uint8).reshape(-1)[: array.size].reshape(array.shape), scale


def dequantize(stored: jax.Array, scale: jax.Array, table: NDArray[np.float32]) -> jax.Array:
    """The float32 array of the parameter's shape that codes and scales stand for."""
    blocks = jnp.pad(stored.reshape(-1), (0, -stored.size % BLOCK)).reshape(-1, BLOCK)
    values = jnp.asarray(table)[blocks] * scale[:, None]
    return values.reshape(-1)[: stored.size].reshape(stored.shape)


def scale_by_adam_8bit(*, b1: Any, b2: Any, eps: Any) -> optax.GradientTransformation:
    """As `optax.scale_by_adam`, with moments in 8 bits."""

    def init(parameters: Any) -> EightBitState:
        def moment(names: Names, leaf: jax.Array) -> jax.Array:
            return jnp.zeros(leaf.shape, jnp.uint8 if _is_quantized(names) else jnp.float32)

        def scale(names: Names, leaf: jax.Array) -> jax.Array:
            if not _is_quantized(names):
                return unused()
            layers, *rest = leaf.shape
            return jnp.zeros((layers, -(-math.prod(rest) // BLOCK)), jnp.float32)

        def mean(names: Names, leaf: jax.Array) -> jax.Array:
            start = moment(names, leaf)
            return start + jnp.uint8(_ZERO) if _is_quantized(names) else start

        return EightBitState(
            jnp.zeros((), jnp.int32),
            mapped(mean, parameters),
            mapped(scale, parameters),
            mapped(moment, parameters),
            mapped(scale, parameters),
        )

    def update(gradients: Any, state: EightBitState, parameters: Any = None) -> tuple[Any, EightBitState]:
        count = state.count + 1
        time = count.astype(jnp.float32)
        stored = zip(*(jax.tree.leaves(part) for part in state[1:]), strict=True)

        def adam(gradient: jax.Array, mean: jax.Array, root: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            first = b1 * mean + (1 - b1) * gradient
            second = jnp.sqrt(b2 * jnp.square(root) + (1 - b2) * jnp.square(gradient))
            return first / (1 - b1**time) / (second / jnp.sqrt(1 - b2**time) + eps), first, second

        def of_layer(parts: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            gradient, mean, mean_scale, root, root_scale = parts
            step, first, second = adam(
                gradient, dequantize(mean, mean_scale, _SIGNED), dequantize(root, root_scale, _UNSIGNED)
            )
            mean, mean_scale = quantize(first, _SIGNED)
            root, root_scale = quantize(second, _UNSIGNED)
            return step, mean, mean_scale, jnp.where(second > 0, jnp.maximum(root, 1), root), root_scale

        made: list[tuple[jax.Array, ...]] = []
        for (names, gradient), (mean, mean_scale, root, root_scale) in zip(
            named_leaves(gradients), stored, strict=True
        ):
            if _is_quantized(names):
                # Layer by layer, so that moments in full are there for one layer only.
                made.append(jax.lax.map(of_layer, (gradient, mean, mean_scale, root, root_scale)))
            else:
                step, first, second = adam(gradient, mean, root)
                made.append((step, first, mean_scale, second, root_scale))
        steps, *parts = (like(gradients, column) for column in zip(*made, strict=True))
        return steps, EightBitState(count, *parts)

    return optax.GradientTransformation(init, update)


# The code of zero: that of the root's table is 0.
_ZERO: Final = int(np.searchsorted(_SIGNED, 0.0))


def _is_quantized(names: Names) -> bool:
    return not (is_vector(names) or is_table(names))
