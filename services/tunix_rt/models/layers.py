"""The parts of one decoder layer, shared by all families, by training and by cached decoding.

A module is built with all layers stacked ([L, …] on every parameter) and applied to one layer sliced out of it ([…]).
Modules are pytrees, so `jax.lax.scan` or `jax.tree.map` does the slicing. The caller passes the attention function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from tunix_rt.models.config import ModelConfig
from tunix_rt.models.rope import Rotation, rotate


class Attend(Protocol):
    """The attention function of the caller: causal over whole sequences, or over a cache."""

    def __call__(self, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        """query [B, T, KV, G, D], key and value [B, T, KV, D] of the new positions → context [B, T, KV, G, D]."""


class Linear(nnx.Module):
    """``x @ kernel + bias`` in the dtype of ``x``; kernel [L, in, out] (single layer: [in, out]), bias [L, out].

    ``layers`` is L, or all leading axes: [L, E, in, out] for the experts of a layer.
    """

    def __init__(
        self,
        layers: int | tuple[int, ...],
        in_features: int,
        out_features: int,
        *,
        std: float,
        rngs: nnx.Rngs,
        bias: bool = False,
    ) -> None:
        leading = (layers,) if isinstance(layers, int) else layers
        self.kernel = nnx.Param(
            std * jax.random.normal(rngs.params(), (*leading, in_features, out_features), jnp.float32)
        )
        self.bias = nnx.Param(jnp.zeros((*leading, out_features), jnp.float32)) if bias else None
        # Set by `tunix_rt.models.adapters`.
        self.adapter: Any = nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        # One flat matrix product: with more axes XLA on CPU uses a slow path for the gradient.
        rows = x.reshape(-1, x.shape[-1])
        y = product = self.product(rows)
        if self.bias is not None:
            y = y + self.bias[...].astype(x.dtype)
        if self.adapter is not None:
            y = y + self.adapter(rows, product, self.kernel[...])
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def product(self, rows: jax.Array) -> jax.Array:
        """rows [N, in] @ kernel: [N, out], in the dtype of ``rows``."""
        return rows @ self.kernel[...].astype(rows.dtype)


class RMSNorm(nnx.Module):
    """Root-mean-square norm over the last axis, computed in float32 (Zhang & Sennrich 2019, arXiv 1910.07467).

    ``around_one`` stores ``scale - 1``, as Gemma's checkpoints do.
    """

    def __init__(self, shape: tuple[int, ...], *, epsilon: float, around_one: bool = False) -> None:
        self.scale = nnx.Param(jnp.zeros(shape, jnp.float32) if around_one else jnp.ones(shape, jnp.float32))
        self.epsilon, self.around_one = epsilon, around_one

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        normed = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.epsilon)
        scale = self.scale[...].astype(jnp.float32)
        return ((1 + scale if self.around_one else scale) * normed).astype(x.dtype)


class LayerNorm(nnx.Module):
    """Norm over the last axis to mean 0 and variance 1, then scale and bias, in float32 (Ba et al. 2016, arXiv
    1607.06450)."""

    def __init__(self, shape: tuple[int, ...], *, epsilon: float) -> None:
        self.scale = nnx.Param(jnp.ones(shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(shape, jnp.float32))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + self.epsilon)
        return (self.scale[...].astype(jnp.float32) * normed + self.bias[...].astype(jnp.float32)).astype(x.dtype)


Norm = RMSNorm | LayerNorm


def make_norm(config: ModelConfig, shape: tuple[int, ...]) -> Norm:
    """A new norm of the family's kind, over the last axis of ``shape``."""
    kind = config.architecture.norm
    if kind == "layer":
        return LayerNorm(shape, epsilon=config.norm_epsilon)
    return RMSNorm(shape, epsilon=config.norm_epsilon, around_one=kind == "rms_around_one")


class Attention(nnx.Module):
    """Grouped-query self-attention (Ainslie et al. 2023, arXiv 2305.13245) with rotary positions.

    Some families normalise queries and keys before the rotation, per head (Henry et al. 2020, arXiv 2010.04245) or over
    all heads (Dehghani et al. 2023, arXiv 2302.05442).
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        layers, hidden, std = config.num_hidden_layers, config.hidden_size, config.initializer_range
        queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self._make_inputs(config, rngs)
        out_std = std / math.sqrt(2 * layers)
        self.o = Linear(layers, queries, hidden, std=out_std, rngs=rngs, bias=config.has_bias("output"))
        self.normed = config.architecture.query_key_norms
        widths = (queries, keys) if self.normed == "whole" else (config.head_dim, config.head_dim)
        self.q_norm = make_norm(config, (layers, widths[0])) if self.normed else None
        self.k_norm = make_norm(config, (layers, widths[1])) if self.normed else None
        self.kv_heads, self.groups, self.head_dim = config.num_key_value_heads, config.query_groups, config.head_dim

    def _make_inputs(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        """The linear layers of `inputs`."""
        layers, hidden, std = config.num_hidden_layers, config.hidden_size, config.initializer_range
        queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        bias = config.has_bias("qkv")
        self.q = Linear(layers, hidden, queries, std=std, rngs=rngs, bias=bias)
        self.k = Linear(layers, hidden, keys, std=std, rngs=rngs, bias=bias)
        self.v = Linear(layers, hidden, keys, std=std, rngs=rngs, bias=bias)

    def inputs(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values of x [B, T, H], the heads of each side by side."""
        return self.q(x), self.k(x), self.v(x)

    def __call__(self, x: jax.Array, rotation: Rotation | None, attend: Attend) -> jax.Array:
        batch, length, _ = x.shape  # [B, T, H]
        query, key, value = self.inputs(x)
        if self.q_norm is not None and self.k_norm is not None and self.normed == "whole":
            query, key = self.q_norm(query), self.k_norm(key)
        query = query.reshape(batch, length, self.kv_heads * self.groups, self.head_dim)
        key = key.reshape(batch, length, self.kv_heads, self.head_dim)
        value = value.reshape(batch, length, self.kv_heads, self.head_dim)
        if self.q_norm is not None and self.k_norm is not None and self.normed == "head":
            query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = rotate(query, *rotation), rotate(key, *rotation)
        context = attend(query.reshape(batch, length, self.kv_heads, self.groups, self.head_dim), key, value)
        return self.o(context.reshape(batch, length, -1))


class PackedAttention(Attention):
    """`Attention` with one linear layer ``qkv`` for queries, keys and values."""

    def _make_inputs(self, config: ModelConfig, rngs: nnx.Rngs) -> None:
        heads = config.num_attention_heads + 2 * config.num_key_value_heads
        std, bias = config.initializer_range, config.has_bias("qkv")
        width = heads * config.head_dim
        self.qkv = Linear(config.num_hidden_layers, config.hidden_size, width, std=std, rngs=rngs, bias=bias)

    def inputs(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        queries, keys = self.kv_heads * self.groups * self.head_dim, self.kv_heads * self.head_dim
        query, key, value = jnp.split(self.qkv(x), [queries, queries + keys], axis=-1)
        return query, key, value


class FusedAttention(nnx.Module):
    """GPT-2's self-attention: one fused projection ``c_attn`` to query, key and value, no rotation."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        layers, hidden, std = config.num_hidden_layers, config.hidden_size, config.initializer_range
        self.c_attn = Linear(layers, hidden, 3 * hidden, std=std, rngs=rngs, bias=True)
        self.c_proj = Linear(layers, hidden, hidden, std=std / math.sqrt(2 * layers), rngs=rngs, bias=True)
        self.heads, self.head_dim = config.num_attention_heads, config.head_dim

    def __call__(self, x: jax.Array, rotation: Rotation | None, attend: Attend) -> jax.Array:
        batch, length, _ = x.shape  # [B, T, H]
        query, key, value = (
            part.reshape(batch, length, self.heads, self.head_dim) for part in jnp.split(self.c_attn(x), 3, axis=-1)
        )
        context = attend(query[:, :, :, None], key, value)
        return self.c_proj(context.reshape(batch, length, -1))


class GatedMLP(nnx.Module):
    """``down(activation(gate(x)) * up(x))`` (Shazeer 2020, arXiv 2002.05202). ``leading``: the axes of stacking, and
    ``inner`` the size inside; None: those of the config's plain MLPs."""

    def __init__(
        self, config: ModelConfig, *, rngs: nnx.Rngs, leading: tuple[int, ...] | None = None, inner: int | None = None
    ) -> None:
        leading = (len(config.mlp_layers),) if leading is None else leading
        hidden, inner = config.hidden_size, config.intermediate_size if inner is None else inner
        std, bias = config.initializer_range, config.has_bias("mlp")
        out_std = std / math.sqrt(2 * config.num_hidden_layers)
        self.gate = Linear(leading, hidden, inner, std=std, rngs=rngs, bias=bias)
        self.up = Linear(leading, hidden, inner, std=std, rngs=rngs, bias=bias)
        self.down = Linear(leading, inner, hidden, std=out_std, rngs=rngs, bias=bias)
        self.activation = config.architecture.activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(_activated(self.gate(x), self.activation) * self.up(x))


class SparseMLP(nnx.Module):
    """A mixture of experts (Shazeer et al. 2017, arXiv 1701.06538): each token goes through the best few of E gated
    MLPs, mixed by the router's probabilities.

    Exact: no expert has a capacity, no token is dropped. The experts follow each other, each with all tokens; one that
    no token chose is not computed. So a program works E times over a batch that asks for all of them, but holds the
    activations of one at a time, in the backward pass too.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        layers, count = len(config.sparse_layers), config.num_experts
        self.router = Linear(layers, config.hidden_size, count, std=config.initializer_range, rngs=rngs)
        self.experts = GatedMLP(config, rngs=rngs, leading=(layers, count), inner=config.moe_intermediate_size)
        self.chosen, self.normed = config.num_experts_per_tok, config.norm_topk_prob

    def __call__(self, x: jax.Array) -> jax.Array:
        rows = x.reshape(-1, x.shape[-1])  # [N, H]
        shares, asked = self.shares(rows)

        def add(total: jax.Array, scanned: tuple[GatedMLP, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            expert, share, is_asked = scanned
            mixed = jax.lax.cond(is_asked, lambda: expert(rows) * share[:, None], lambda: jnp.zeros_like(rows))
            return total + mixed, None

        step = jax.checkpoint(add, prevent_cse=False)
        total, _ = jax.lax.scan(step, jnp.zeros_like(rows), (self.experts, shares.T.astype(rows.dtype), asked))
        return total.reshape(x.shape)

    def shares(self, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Each expert's share in the result of rows [N, H]: [N, E] float32, 0 for those not chosen; and which experts
        any row has chosen: [E] bool."""
        probabilities = jax.nn.softmax(self.router(rows).astype(jnp.float32), axis=-1)
        best, chosen = jax.lax.top_k(probabilities, self.chosen)  # [N, k]
        if self.normed:
            best = best / jnp.sum(best, axis=-1, keepdims=True)
        shares = jnp.zeros_like(probabilities).at[jnp.arange(rows.shape[0])[:, None], chosen].set(best)
        return shares, jnp.zeros(probabilities.shape[-1], bool).at[chosen].set(True)


class PackedMLP(nnx.Module):
    """`GatedMLP` with one linear layer ``gate_up`` for its two inputs."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        layers, hidden, inner = config.num_hidden_layers, config.hidden_size, config.intermediate_size
        std, bias = config.initializer_range, config.has_bias("mlp")
        self.gate_up = Linear(layers, hidden, 2 * inner, std=std, rngs=rngs, bias=bias)
        self.down = Linear(layers, inner, hidden, std=std / math.sqrt(2 * layers), rngs=rngs, bias=bias)
        self.activation = config.architecture.activation

    def __call__(self, x: jax.Array) -> jax.Array:
        gate, up = jnp.split(self.gate_up(x), 2, axis=-1)
        return self.down(_activated(gate, self.activation) * up)


class PlainMLP(nnx.Module):
    """``c_proj(activation(c_fc(x)))``, with GPT-2's names."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        layers, hidden, inner = config.num_hidden_layers, config.hidden_size, config.intermediate_size
        std = config.initializer_range
        self.c_fc = Linear(layers, hidden, inner, std=std, rngs=rngs, bias=True)
        self.c_proj = Linear(layers, inner, hidden, std=std / math.sqrt(2 * layers), rngs=rngs, bias=True)
        self.activation = config.architecture.activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.c_proj(_activated(self.c_fc(x), self.activation))


def _activated(x: jax.Array, kind: str) -> jax.Array:
    """SiLU, or GELU in its tanh form (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""
    return jax.nn.silu(x) if kind == "silu" else jax.nn.gelu(x, approximate=True)


class Block(nnx.Module):
    """Attention and MLP with residual connections, and norms before each, after each, or both.

    Stacked, ``mlp`` has the layers with one MLP and ``moe`` those with experts; a single layer has one of the two
    (`block_at`).
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        shape, architecture = (config.num_hidden_layers, config.hidden_size), config.architecture
        self.input_norm = make_norm(config, shape) if architecture.input_norms else None
        packed = architecture.packed_projections
        attention: type[Attention] | type[FusedAttention] = PackedAttention if packed else Attention
        attention = FusedAttention if architecture.fused_attention else attention
        self.attention = attention(config, rngs=rngs)
        self.attention_output_norm = make_norm(config, shape) if architecture.output_norms else None
        self.mlp_norm = make_norm(config, shape) if architecture.input_norms else None
        mlp: type[GatedMLP] | type[PackedMLP] | type[PlainMLP] = PackedMLP if packed else GatedMLP
        mlp = mlp if architecture.gated_mlp else PlainMLP
        self.mlp: Any = nnx.data(mlp(config, rngs=rngs) if config.mlp_layers else None)
        self.moe: Any = nnx.data(SparseMLP(config, rngs=rngs) if config.sparse_layers else None)
        self.mlp_output_norm = make_norm(config, shape) if architecture.output_norms else None

    def __call__(self, x: jax.Array, rotation: Rotation | None, attend: Attend) -> jax.Array:
        added = self.attention(_normed(self.input_norm, x), rotation, attend)  # [B, T, H]
        x = x + _normed(self.attention_output_norm, added)
        mlp = self.mlp if self.moe is None else self.moe
        added = mlp(_normed(self.mlp_norm, x))
        return x + _normed(self.mlp_output_norm, added)


def _normed(norm: Norm | None, x: jax.Array) -> jax.Array:
    return x if norm is None else norm(x)


def block_at(blocks: Block, config: ModelConfig, layer: int) -> Block:
    """The block of one layer out of stacked ones, whose parameters are views or slices."""
    kind = "mlp" if layer in config.mlp_layers else "moe"
    place = (config.mlp_layers if kind == "mlp" else config.sparse_layers).index(layer)
    common: Block = jax.tree.map(lambda leaf: leaf, blocks)  # a copy, whose attributes may be set
    common.mlp, common.moe = nnx.data(None), nnx.data(None)
    block: Block = jax.tree.map(lambda leaf: leaf[layer], common)
    setattr(block, kind, nnx.data(jax.tree.map(lambda leaf: leaf[place], getattr(blocks, kind))))
    return block


def replace_linear(block: Block, path: str, build: Callable[[Linear], nnx.Module]) -> None:
    """Replace one linear layer of a block by ``build(layer)``. ``path`` starts at the decoder: "blocks.attention.q".

    Nothing happens where the block does not have the layer.
    """
    *within, name = path.removeprefix("blocks.").split(".")
    holder: object = block
    for part in within:
        holder = getattr(holder, part)
        if holder is None:
            return
    setattr(holder, name, build(getattr(holder, name)))
