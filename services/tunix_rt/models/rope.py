"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864) in the half-split layout of Hugging Face checkpoints.

Context extension:

- ``linear``: every frequency divided by ``factor`` (Chen et al. 2023, arXiv 2306.15595).
- ``dynamic``: a larger base once a sequence is longer than ``max_position_embeddings`` ("NTK-aware", bloc97 2023; the
  form given in Peng et al. 2023, arXiv 2309.00071, appendix A).
- ``llama3``: only low frequencies divided, blended in between (Llama 3.1 report, arXiv 2407.21783).
- ``yarn``: blended by the number of rotations of a pair within the original length; cosine and sine are scaled (arXiv
  2309.00071, section 3).
- ``longrope``: each pair's frequency divided by its own searched factor, of two sets by the sequence's length (Ding et
  al. 2024, arXiv 2402.13753); cosine and sine are scaled.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tunix_rt.models.config import LayerType, ModelConfig, RopeScaling

# Cosine and sine of every position: each [B, T, rotary_size / 2] float32.
Rotation = tuple[jax.Array, jax.Array]
_F32 = np.float32


def inverse_frequencies(config: ModelConfig, layer_type: LayerType = "full_attention") -> NDArray[np.float32]:
    """Radians per position of each rotated pair in this layer type, scaling included: [rotary_size / 2] float32.

    ``dynamic`` scaling is not included: it has no effect up to ``max_position_embeddings``. ``longrope`` gives those of
    sequences up to the original length.
    """
    theta, scaling = config.rope_of(layer_type)
    exponents = np.arange(0, config.rotary_size, 2, dtype=np.float32) / _F32(config.rotary_size)
    frequencies: NDArray[np.float32] = _F32(1.0) / np.power(_F32(theta), exponents)
    if scaling.rope_type == "longrope":
        return np.asarray(frequencies / np.asarray(scaling.short_factor, np.float32), dtype=np.float32)
    if scaling.rope_type == "linear":
        return np.asarray(frequencies / _F32(scaling.factor), dtype=np.float32)
    if scaling.rope_type in ("llama3", "yarn"):
        kept = (
            _kept_llama3(frequencies, scaling) if scaling.rope_type == "llama3" else _kept_yarn(theta, config, scaling)
        )
        return np.asarray((1 - kept) * frequencies / scaling.factor + kept * frequencies, dtype=np.float32)
    return frequencies


def _kept_llama3(frequencies: NDArray[np.float32], scaling: RopeScaling) -> NDArray[np.float64]:
    """1 where the wavelength fits into the original context ``high_freq_factor`` times, 0 where it fits less than
    ``low_freq_factor`` times, linear in between."""
    fits = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)
    share = (fits - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    return np.asarray(np.clip(share, 0.0, 1.0), dtype=np.float64)


def _kept_yarn(theta: float, config: ModelConfig, scaling: RopeScaling) -> NDArray[np.float64]:
    """1 for pairs with more than ``beta_fast`` rotations within the original length, 0 for pairs with fewer than
    ``beta_slow``, linear in the pair's index in between."""

    def pair_with_rotations(count: float) -> float:
        wavelength = scaling.original_max_position_embeddings / (count * 2 * math.pi)
        return config.rotary_size * math.log(wavelength) / (2 * math.log(theta))

    first, last = pair_with_rotations(scaling.beta_fast), pair_with_rotations(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, config.rotary_size - 1)
    last = last + 0.001 if first == last else last
    ramp = (np.arange(config.rotary_size // 2) - first) / (last - first)
    return np.asarray(1 - np.clip(ramp, 0.0, 1.0), dtype=np.float64)


def attention_factor(scaling: RopeScaling) -> float:
    """Factor of cosine and sine: 1 except for ``yarn`` (arXiv 2309.00071, equation 22) and ``longrope`` (arXiv
    2404.14219, in the published code)."""
    if scaling.rope_type not in ("yarn", "longrope"):
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.rope_type == "longrope":
        longer = math.log(max(scaling.factor, 1.0))
        return math.sqrt(1 + longer / math.log(scaling.original_max_position_embeddings)) if longer else 1.0

    def temperature(weight: float) -> float:
        return 1.0 if scaling.factor <= 1 else 0.1 * weight * math.log(scaling.factor) + 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return temperature(scaling.mscale) / temperature(scaling.mscale_all_dim)
    return temperature(1.0)


def rotation_of(
    config: ModelConfig,
    positions: jax.Array,
    layer_type: LayerType = "full_attention",
    *,
    segment_ids: jax.Array | None = None,
) -> Rotation:
    """Cosine and sine for ``positions`` [B, T] in this layer type.

    With ``dynamic`` scaling the base depends on the length of the position's segment, with ``longrope`` each frequency.
    ``segment_ids`` [B, T] None: each row is one segment.
    """
    theta, scaling = config.rope_of(layer_type)
    frequencies: jax.Array | NDArray[np.float32] = inverse_frequencies(config, layer_type)
    if scaling.rope_type == "dynamic":
        stretch = _dynamic_stretch(config, scaling, _lengths(positions, segment_ids))
        exponents = jnp.arange(0, config.rotary_size, 2, dtype=jnp.float32) / config.rotary_size
        frequencies = 1.0 / jnp.power(theta * stretch[..., None], exponents)  # [B, T, D / 2]
    elif scaling.rope_type == "longrope":
        is_long = _lengths(positions, segment_ids) > scaling.original_max_position_embeddings
        divided = np.asarray(scaling.short_factor, np.float32) / np.asarray(scaling.long_factor, np.float32)
        frequencies = jnp.where(is_long[..., None], frequencies * divided, frequencies)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    factor = attention_factor(scaling)
    if factor == 1.0:
        return jnp.cos(angles), jnp.sin(angles)
    return jnp.cos(angles) * factor, jnp.sin(angles) * factor


def _lengths(positions: jax.Array, segment_ids: jax.Array | None) -> jax.Array:
    """Length of each position's segment: [B, T], or [B, 1] if each row is one segment."""
    if segment_ids is None:
        return jnp.max(positions, axis=-1, keepdims=True) + 1
    together = segment_ids[:, :, None] == segment_ids[:, None, :]
    return jnp.max(jnp.where(together, positions[:, None, :], 0), axis=-1) + 1


def _dynamic_stretch(config: ModelConfig, scaling: RopeScaling, lengths: jax.Array) -> jax.Array:
    """Factor of the base for sequences of ``lengths``: 1 up to ``max_position_embeddings``."""
    trained, size = config.max_position_embeddings, config.rotary_size
    excess = jnp.maximum(lengths.astype(jnp.float32), trained) / trained - 1
    return jnp.power(1 + scaling.factor * excess, size / (size - 2))


def rotation_if(turns: jax.Array, rotation: Rotation) -> Rotation:
    """``rotation`` if ``turns`` ([] bool), else the one that changes nothing."""
    cosine, sine = rotation
    return jnp.where(turns, cosine, 1.0), jnp.where(turns, sine, 0.0)


def rotate(x: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    """Rotate the first R dimensions of every head of ``x`` [B, T, heads, D]; ``cosine`` and ``sine`` are [B, T, R / 2].
    Keeps the dtype."""
    size = 2 * cosine.shape[-1]
    if size < x.shape[-1]:
        return jnp.concatenate([rotate(x[..., :size], cosine, sine), x[..., size:]], axis=-1)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cosine, sine = cosine[:, :, None, :], sine[:, :, None, :]
    rotated = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return rotated.astype(x.dtype)
