"""Linear layers and the output table in int8, for cached decoding: the weight format "int8-v1".

Owns how a matrix is quantised and multiplied. What the format means, and that it never changes, is said in
`tunix_rt.contract.weight_formats`. Sums are exact, and a row's scale is its own, so that a row's product cannot depend
on its neighbours, nor on the order in which a machine adds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from tunix_rt.errors import InvalidArtifact
from tunix_rt.models.adapters import linear_shapes
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.layers import Linear

# Symmetric: -128 is not used. 127² * 133,144 inputs fill an int32.
LARGEST = 127
_F32 = 4
# Matrix rows that are quantised at a time, so that what lies between is small beside the matrix.
_ROWS = 4096


class Int8Matrix(NamedTuple):
    """Stands for the matrix ``values * scale[:, None]``. A pytree."""

    values: jax.Array  # [out, in] i8
    scale: jax.Array  # [out] f32


def quantize(matrix: NDArray[np.float32]) -> Int8Matrix:
    """The nearest `Int8Matrix` of an [out, in] float32 matrix: off by half a row's scale at most.

    Raises `InvalidArtifact` when a weight is not a finite number.
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
    """rows [N, in] times the transposed matrix: [N, out] float32, with each row rounded to 16 bits.

    A row goes in as two of int8, its rounded values and 254 times what that left over: a few entries of a transformer's
    activations are so large that 8 bits leave nothing of the others. Twice the rows cost little where weights are what
    has to be read; two are also the fewest for which XLA on CPU has a fast path.
    """
    wide = rows.astype(jnp.float32)
    # Not below the smallest normal number, so that a row of zeros stays one.
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
    """A `Linear` of one layer over an `Int8Matrix`: ``kernel`` is [out, in] i8."""

    def __init__(self, linear: Linear) -> None:
        """``linear`` is one layer's; its bias and what `tunix_rt.models.adapters` put beside it are kept."""
        matrix = quantize(np.asarray(linear.kernel[...], np.float32).T)
        self.kernel = nnx.Param(matrix.values)
        self.scale = nnx.Param(matrix.scale)
        self.bias = linear.bias
        self.adapter: Any = nnx.data(linear.adapter)

    def product(self, rows: jax.Array) -> jax.Array:
        return product(rows, Int8Matrix(self.kernel[...], self.scale[...])).astype(rows.dtype)


def quantized_bytes(config: ModelConfig) -> int:
    """Bytes of a decoder's weights in this format. Where the output table is the embedding, it is there twice."""
    layers = linear_shapes(config).values()
    table = config.vocab_size * config.hidden_size
    values = sum(depth * inputs * outputs for depth, inputs, outputs in layers)
    scales = sum(depth * outputs for depth, _, outputs in layers) + config.vocab_size
    kept = config.parameter_count - values - (0 if config.tie_word_embeddings else table)
    return values + table + _F32 * (scales + kept)
