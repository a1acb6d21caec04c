"""Incremental decoding: unrolled layers over a key/value cache.

- Layers are unrolled: XLA on CPU decodes twice as fast that way as with a scan.
- Kernels are transposed to [out, in]: with few rows a product is as fast as its kernel is read, and XLA on CPU reads
  [out, in] faster (1.1 times at 8 and 16 rows of SmolLM2-135M), and no slower with many rows.
- Attention costs follow the positions in use, not the capacity (`attend_cached`).

`KVCache` is opaque to callers; only the functions here read it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tunix_rt.contract.generation import GENERATION_RULES
from tunix_rt.contract.weight_formats import INT8_V1
from tunix_rt.errors import FieldViolation, InvalidInput, Violations
from tunix_rt.models.attention import soft_capped
from tunix_rt.models.config import LayerType, ModelConfig
from tunix_rt.models.decoder import Decoder, capped, embed, project_to_vocabulary
from tunix_rt.models.layers import Block, Linear, Norm, block_at, replace_linear
from tunix_rt.models.parameters import names_on
from tunix_rt.models.quantized import Int8Matrix, QuantizedLinear, product, quantize, quantized_bytes
from tunix_rt.models.rope import rotation_of
from tunix_rt.models.weight_map import linear_paths

# Positions per block of `attend_cached`. On a CPU 32 to 64 were fastest, for 1M and for 135M parameters.
BLOCK = 64


class Weights(NamedTuple):
    """A decoder's parameters for `forward_cached`, one `Block` per layer. A pytree."""

    embedding: jax.Array  # [V, H]
    blocks: tuple[Block, ...]
    norm: Norm
    table: jax.Array | Int8Matrix  # [V, H]; the embedding itself if tied
    positions: jax.Array | None = None  # [P, H] if positions are learned


class KVCache(NamedTuple):
    """Keys (rotated) and values of every layer, each [S, KV, C, D]: slots, key heads, capacity, head size. A pytree."""

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]

    @property
    def capacity(self) -> int:
        """Positions per slot."""
        return int(self.keys[0].shape[2])


class OutputMajorLinear(Linear):
    """A `Linear` of one layer whose ``kernel`` is [out, in] (of experts: [E, out, in])."""

    def __init__(self, linear: Linear) -> None:
        """``linear`` is a single layer. Its bias and adapter are kept."""
        self.kernel = nnx.Param(jnp.swapaxes(linear.kernel[...], -1, -2))
        self.bias = linear.bias
        self.adapter: Any = nnx.data(linear.adapter)

    def product(self, rows: jax.Array) -> jax.Array:
        last = (((1,), (1,)), ((), ()))
        return jax.lax.dot_general(rows, self.kernel[...].astype(rows.dtype), last)


def decode_weights(decoder: Decoder, dtype: str = "float32", weight_format: str = "") -> Weights:
    """Unstacked copy of the decoder's parameters in ``dtype`` ("float32" | "bfloat16"); norms stay float32.

    With a ``weight_format`` (`tunix_rt.contract.weight_formats`), ``dtype`` applies to activations and to the weights
    that the format does not convert. Raises `InvalidInput` for an unknown format, `InvalidArtifact` for weights that
    the format cannot represent.
    """
    found = Violations()
    GENERATION_RULES["weight_format"].check(weight_format, "weight_format", found)
    found.raise_if_any()

    exact = ("norm", "kernel") if weight_format else ("norm",)  # kernels are rounded once, by the format

    def cast(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        is_exact = any(name.endswith(exact) for name in names_on(path))
        return leaf if is_exact else leaf.astype(jnp.dtype(dtype))

    def block_of(layer: int) -> Block:
        block: Block = jax.tree_util.tree_map_with_path(cast, block_at(decoder.blocks, decoder.config, layer))
        for path in linear_paths(decoder.config):
            replace_linear(block, path, QuantizedLinear if weight_format == INT8_V1 else OutputMajorLinear)
        return block

    blocks = tuple(block_of(layer) for layer in range(decoder.config.num_hidden_layers))
    embedding = decoder.embedding[...].astype(jnp.dtype(dtype))
    table: jax.Array | Int8Matrix
    if weight_format == INT8_V1:
        table = quantize(np.asarray(decoder.output_table(), np.float32))
    else:
        table = embedding if decoder.head is None else decoder.head[...].astype(jnp.dtype(dtype))
    positions = None if decoder.positions is None else decoder.positions[...].astype(jnp.dtype(dtype))
    return Weights(embedding, blocks, decoder.norm, table, positions)


def weight_bytes(config: ModelConfig, weight_format: str = "") -> int:
    """Bytes of the float32 `Weights` of a decoder in this format. Allocates nothing."""
    return quantized_bytes(config) if weight_format == INT8_V1 else config.parameter_count * 4


def init_cache(config: ModelConfig, slots: int, capacity: int, dtype: str = "float32") -> KVCache:
    """An empty cache for ``slots`` sequences of at most ``capacity`` positions.

    Raises `InvalidInput` for a capacity above ``max_position_embeddings`` with ``dynamic`` rope scaling, or above the
    original length with ``longrope``: past it new positions change the rotation of the cached keys.
    """
    scalings = {config.rope_of(kind)[1].rope_type for kind in config.types_of_layers}
    changing, most = scalings & {"dynamic", "longrope"}, config.cacheable_positions
    if changing and capacity > most:
        prefix = "original_" if most < config.max_position_embeddings else ""
        limit = f"must be at most {prefix}max_position_embeddings = {most} with {changing.pop()} rope scaling"
        raise InvalidInput([FieldViolation("capacity", limit)])
    shape = (slots, config.num_key_value_heads, capacity, config.head_dim)
    layers = range(config.num_hidden_layers)
    return KVCache(
        tuple(jnp.zeros(shape, jnp.dtype(dtype)) for _ in layers),
        tuple(jnp.zeros(shape, jnp.dtype(dtype)) for _ in layers),
    )


def forward_cached(
    weights: Weights, config: ModelConfig, tokens: jax.Array, positions: jax.Array, cache: KVCache
) -> tuple[jax.Array, KVCache]:
    """Activations [S, T, H] of new tokens, and the cache with their keys and values written at their positions.

    ``tokens`` and ``positions`` are [S, T] i32. A position < 0 is padding: it writes nothing and its result is
    undefined. A token attends to the cached positions ≤ its own, so a slot is reused by starting again at position 0
    without clearing it.
    """
    slot = jnp.arange(tokens.shape[0])[:, None]
    # Padding is written past the end, where it is dropped; a negative index would wrap.
    target = jnp.where(positions < 0, cache.capacity, positions)
    seen_positions = jnp.maximum(positions, 0)
    types = config.types_of_layers
    rotations = {
        kind: None if config.architecture.learned_positions else rotation_of(config, seen_positions, kind)
        for kind in dict.fromkeys(types)
    }
    keys: list[jax.Array] = []
    values: list[jax.Array] = []

    dtype = weights.embedding.dtype
    x = embed(config, weights.embedding, weights.positions, tokens, seen_positions, dtype)  # [S, T, H]
    for layer, (kind, block, old_keys, old_values) in enumerate(
        zip(types, weights.blocks, cache.keys, cache.values, strict=True)
    ):

        def attend(
            query: jax.Array,
            key: jax.Array,
            value: jax.Array,
            old_keys: jax.Array = old_keys,
            old_values: jax.Array = old_values,
            kind: LayerType = kind,
        ) -> jax.Array:
            keys.append(old_keys.at[slot, :, target].set(key.astype(old_keys.dtype), mode="drop"))
            values.append(old_values.at[slot, :, target].set(value.astype(old_values.dtype), mode="drop"))
            window, scale, cap = config.window_of(kind), config.attention_scale, config.attention_softcapping
            return attend_cached(query, keys[-1], values[-1], positions, window=window, scale=scale, cap=cap)

        rotation = None if layer in config.unrotated_layers else rotations[kind]
        x = block(x, rotation, attend)
    return weights.norm(x), KVCache(tuple(keys), tuple(values))


def attend_cached(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    positions: jax.Array,
    *,
    window: int | None = None,
    scale: float | None = None,
    cap: float | None = None,
) -> jax.Array:
    """Attention of new tokens over the cached positions ≤ their own, or over the last ``window`` of these.

    query [S, T, KV, G, D]; keys, values [S, KV, C, D]; positions [S, T] i32, < 0 for padding (undefined result).
    Returns [S, T, KV, G, D] in the query's dtype. Scores, multiplied by ``scale`` (None: 1/√D)
    and soft-capped at ``cap``, and sums are float32.

    Works through the cache block by block with a running softmax (Milakov & Gimelshein 2018, arXiv 1805.02867), from
    the first block that any row's window covers to the furthest position of any row. A block that a row cannot see
    changes that row's sums by exactly nothing (maximum kept, factor exp(0) = 1, addends 0). A row's result therefore
    does not depend on the other rows' lengths.
    """
    slots, length, heads, groups, size = query.shape
    capacity = keys.shape[2]
    block = min(BLOCK, capacity)
    rows = query.transpose(0, 2, 3, 1, 4).reshape(slots, heads, groups * length, size)  # [S, KV, G*T, D]
    own = jnp.tile(jnp.maximum(positions, 0), (1, groups))[:, None, :, None]  # [S, 1, G*T, 1]
    lowest = jnp.float32(-3.4028235e38)
    factor = size**-0.5 if scale is None else scale

    def add_block(
        index: jax.Array, sums: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        highest, total, mixed = sums
        # If the capacity is not a multiple of the block, the last block overlaps the one before. The overlap is masked.
        start = jnp.minimum(index * block, capacity - block)
        key = jax.lax.dynamic_slice_in_dim(keys, start, block, axis=2)
        value = jax.lax.dynamic_slice_in_dim(values, start, block, axis=2)
        at = start + jnp.arange(block)
        visible = (at <= own) & (at >= index * block)  # [S, 1, G*T, block]
        if window is not None:
            visible &= at > own - window
        scores = jnp.einsum("skrd,skcd->skrc", rows, key, preferred_element_type=jnp.float32) * factor
        scores = jnp.where(visible, soft_capped(scores, cap), lowest)
        new_highest = jnp.maximum(highest, jnp.max(scores, axis=-1))
        rescale = jnp.exp(highest - new_highest)
        weights = jnp.where(visible, jnp.exp(scores - new_highest[..., None]), 0)
        added = jnp.einsum("skrc,skcd->skrd", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
        return new_highest, total * rescale + jnp.sum(weights, axis=-1), mixed * rescale[..., None] + added

    shape = (slots, heads, groups * length)
    nothing = (jnp.full(shape, lowest), jnp.zeros(shape, jnp.float32), jnp.zeros((*shape, size), jnp.float32))
    used = (jnp.max(positions) + block) // block  # blocks up to the furthest position; 0 if all rows are padding
    first: int | jax.Array = 0
    if window is not None:
        earliest = jnp.min(jnp.where(positions < 0, capacity, positions))
        first = jnp.maximum(earliest - window + 1, 0) // block
    _, total, mixed = jax.lax.fori_loop(first, used, add_block, nothing)
    context: jax.Array = mixed / jnp.maximum(total, 1e-30)[..., None]
    return context.reshape(slots, heads, groups, length, size).transpose(0, 3, 1, 2, 4).astype(query.dtype)


def logits_of(weights: Weights, config: ModelConfig, hidden: jax.Array) -> jax.Array:
    """Logits [..., V] float32 of activations [..., H]."""
    if isinstance(weights.table, Int8Matrix):
        logits = product(hidden.reshape(-1, hidden.shape[-1]), weights.table)
        return capped(config, logits.reshape(*hidden.shape[:-1], -1))
    return project_to_vocabulary(config, hidden, weights.table)
