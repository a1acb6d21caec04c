"""The parts of one decoder layer, written once for training and for cached decoding.

A module here is built with all layers stacked ([L, …] on every parameter) and applied with one layer sliced out
([…]); modules are pytrees, so `jax.lax.scan` or `jax.tree.map` does the slicing. What a query may attend to is the
caller's business: it hands in ``attend``.
"""

from __future__ import annotations

import math
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from tunix_rt.models.config import ModelConfig
from tunix_rt.models.rope import rotate


class Attend(Protocol):
    """Mixes values over the positions that a query may see."""

    def __call__(self, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        """query [B, T, KV, G, D], key and value [B, T, KV, D] of the new positions → context [B, T, KV, G, D]."""


class Linear(nnx.Module):
    """``x @ kernel``, kernel [L, in, out] (one layer: [in, out]), in the dtype of ``x``."""

    def __init__(self, layers: int, in_features: int, out_features: int, *, std: float, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(
            std * jax.random.normal(rngs.params(), (layers, in_features, out_features), jnp.float32)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        # One flat matrix product: with more axes XLA on CPU takes a slow path for the gradient.
        kernel = self.kernel[...].astype(x.dtype)
        return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


class RMSNorm(nnx.Module):
    """Root-mean-square norm over the last axis, computed in float32 (Zhang & Sennrich 2019, arXiv 1910.07467)."""

    def __init__(self, shape: tuple[int, ...], *, epsilon: float) -> None:
        self.scale = nnx.Param(jnp.ones(shape, jnp.float32))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        normed = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.epsilon)
        return (self.scale[...].astype(jnp.float32) * normed).astype(x.dtype)


class Attention(nnx.Module):
    """Grouped-query self-attention with rotary positions."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        layers, hidden, std = config.num_hidden_layers, config.hidden_size, config.initializer_range
        queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q = Linear(layers, hidden, queries, std=std, rngs=rngs)
        self.k = Linear(layers, hidden, keys, std=std, rngs=rngs)
        self.v = Linear(layers, hidden, keys, std=std, rngs=rngs)
        self.o = Linear(layers, queries, hidden, std=std / math.sqrt(2 * layers), rngs=rngs)
        self.kv_heads, self.groups, self.head_dim = config.num_key_value_heads, config.query_groups, config.head_dim

    def __call__(self, x: jax.Array, turn: tuple[jax.Array, jax.Array], attend: Attend) -> jax.Array:
        batch, length, _ = x.shape  # [B, T, H]
        query = rotate(self.q(x).reshape(batch, length, self.kv_heads * self.groups, self.head_dim), *turn)
        key = rotate(self.k(x).reshape(batch, length, self.kv_heads, self.head_dim), *turn)
        value = self.v(x).reshape(batch, length, self.kv_heads, self.head_dim)
        context = attend(query.reshape(batch, length, self.kv_heads, self.groups, self.head_dim), key, value)
        return self.o(context.reshape(batch, length, -1))


class GatedMLP(nnx.Module):
    """``down(silu(gate(x)) * up(x))`` (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        layers, hidden, inner, std = (
            config.num_hidden_layers,
            config.hidden_size,
            config.intermediate_size,
            config.initializer_range,
        )
        self.gate = Linear(layers, hidden, inner, std=std, rngs=rngs)
        self.up = Linear(layers, hidden, inner, std=std, rngs=rngs)
        self.down = Linear(layers, inner, hidden, std=std / math.sqrt(2 * layers), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


class Block(nnx.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        norm_shape = (config.num_hidden_layers, config.hidden_size)
        self.input_norm = RMSNorm(norm_shape, epsilon=config.rms_norm_eps)
        self.attention = Attention(config, rngs=rngs)
        self.post_attention_norm = RMSNorm(norm_shape, epsilon=config.rms_norm_eps)
        self.mlp = GatedMLP(config, rngs=rngs)

    def __call__(self, x: jax.Array, turn: tuple[jax.Array, jax.Array], attend: Attend) -> jax.Array:
        x = x + self.attention(self.input_norm(x), turn, attend)  # [B, T, H]
        return x + self.mlp(self.post_attention_norm(x))
