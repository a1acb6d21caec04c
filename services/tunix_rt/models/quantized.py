"""Linear layers and the output table in int8 for cached decoding: the weight format "int8-v1".

`tunix_rt.contract.weight_formats` specifies the format, which never changes. Sums are exact and each row has its own
scale, so a row's product depends neither on its neighbours nor on the machine's order of addition.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.adapters import kernel_shapes
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.layers import Linear

# Symmetric: -128 is not used. 127² * 133,144 inputs fill an int32.
LARGEST = 127
_F32 = 4
# Matrix rows quantised at a time; keeps temporary arrays small.
_ROWS = 4096


class Int8Matrix(NamedTuple):
    """The matrix ``values * scale[:, None]``. A pytree."""

    values: jax.Array  # [out, in] i8
    scale: jax.Array  # [out] f32


def quantize(matrix: NDArray[np.float32]) -> Int8Matrix:
    """The nearest `Int8Matrix` of an [out, in] float32 matrix; the error is at most half a row's scale.

    Raises `InvalidArtifact` when a weight is not finite.
    """
    values = np.empty(matrix.shape, np.int8)
    scale = np.empty(matrix.shape[0], np.float32)
    for start in range(0, len(matrix), _ROWS):
        rows = matrix[start : start + _ROWS]
        own = np.abs(rows).max(axis=1) / np.float32(LARGEST)
        if not np.isfinite(own).all():
            raise InvalidArtifact("the model has weights that are not finite numbers")
        scale[start : start + _ROWS] = own
        divisor = np.where(own > 0, own, np.float32(1))[:, None]
        values[start : start + _ROWS] = np.clip(np.rint(rows / divisor), -LARGEST, LARGEST)
    return Int8Matrix(jnp.asarray(values), jnp.asarray(scale))


def dequantize(matrix: Int8Matrix) -> jax.Array:
    """[out, in] float32."""
    return matrix.values.astype(jnp.float32) * matrix.scale[:, None]


def product(rows: jax.Array, matrix: Int8Matrix) -> jax.Array:
    """rows [N, in] @ matrixᵀ: [N, out] float32, each row rounded to 16 bits.

    A row is split into two int8 rows, the rounded values and 254 times the remainder: a few entries of a transformer's
    activations are so large that 8 bits would round the others to 0. Doubling the rows costs little when reading the
    weights dominates, and two rows are the fewest for which XLA on CPU has a fast path.
    """
    wide = rows.astype(jnp.float32)
    # At least the smallest normal number, so a row of zeros stays zero.
    highest = jnp.maximum(jnp.max(jnp.abs(wide), axis=-1, keepdims=True), LARGEST * float(np.finfo(np.float32).tiny))
    scale = highest / LARGEST  # [N, 1]
    steps = wide / scale
    coarse = jnp.round(steps)
    fine = jnp.round((steps - coarse) * (2 * LARGEST))
    both = jnp.concatenate([coarse, fine]).astype(jnp.int8)  # [2N, in]
    last = (((1,), (1,)), ((), ()))
    sums = jax.lax.dot_general(both, matrix.values, last, preferred_element_type=jnp.int32).astype(jnp.float32)
    count = rows.shape[0]
    return (sums[:count] + sums[count:] / (2 * LARGEST)) * scale * matrix.scale


class QuantizedLinear(Linear):
    """A `Linear` of one layer over an `Int8Matrix`: ``kernel`` is [out, in] i8, ``scale`` [out] f32 (of experts, each
    with its own: [E, out, in], [E, out])."""

    def __init__(self, linear: Linear) -> None:
        """``linear`` is a single layer. Its bias and adapter are kept."""
        rows = np.asarray(linear.kernel[...], np.float32).swapaxes(-1, -2)
        matrix = quantize(rows.reshape(-1, rows.shape[-1]))
        self.kernel = nnx.Param(matrix.values.reshape(rows.shape))
        self.scale = nnx.Param(matrix.scale.reshape(rows.shape[:-1]))
        self.bias = linear.bias
        self.adapter: Any = nnx.data(linear.adapter)

    def product(self, rows: jax.Array) -> jax.Array:
        return product(rows, Int8Matrix(self.kernel[...], self.scale[...])).astype(rows.dtype)


def quantized_bytes(config: ModelConfig) -> int:
    """Bytes of a decoder's weights in this format. A tied embedding is stored twice, as float32 and as int8."""
    layers = kernel_shapes(config).values()
    table = config.vocab_size * config.hidden_size
    values = sum(depth * inputs * outputs for depth, inputs, outputs in layers)
    scales = sum(depth * outputs for depth, _, outputs in layers) + config.vocab_size
    kept = config.parameter_count - values - (0 if config.tie_word_embeddings else table)
    return values + table + _F32 * (scales + kept)
