"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in the half-split layout of Hugging Face
checkpoints."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tunix_rt.models.config import ModelConfig


def inverse_frequencies(config: ModelConfig) -> NDArray[np.float32]:
    """Radians per position of each rotated pair: [head_dim / 2] float32, with the config's scaling applied."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies: NDArray[np.float32] = np.float32(1.0) / np.power(np.float32(config.rope_theta), exponents)
    scaling = config.rope_scaling
    if scaling.rope_type == "default":
        return frequencies
    if scaling.rope_type == "linear":
        return np.asarray(frequencies / np.float32(scaling.factor), dtype=np.float32)
    wavelengths = 2 * math.pi / frequencies
    context = scaling.original_max_position_embeddings
    # 1 where the wavelength fits into the original context high_freq_factor times, 0 where it fits less than
    # low_freq_factor times.
    blend = (context / wavelengths - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = np.clip(blend, 0.0, 1.0)
    return np.asarray((1 - blend) * frequencies / scaling.factor + blend * frequencies, dtype=np.float32)


def rotation(config: ModelConfig, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine for ``positions`` [B, T]: each [B, T, head_dim / 2] float32."""
    angles = positions[..., None].astype(jnp.float32) * inverse_frequencies(config)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    """Rotate every head of ``x`` [B, T, heads, D] by the angles given as [B, T, D / 2]; keeps the dtype of ``x``."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cosine, sine = cosine[:, :, None, :], sine[:, :, None, :]
    turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return turned.astype(x.dtype)
