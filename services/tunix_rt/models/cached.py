"""Incremental decoding: unrolled layers over a key/value cache.

Owns the weights' decoding layout and the cache. Knows nothing of slots, requests or sampling. Layers are unrolled
because XLA on CPU decodes twice as fast that way as with a scan. Callers treat `KVCache` as opaque, except through
the functions here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.contract.generation import GENERATION_RULES
from tunix_rt.contract.weight_formats import INT8_V1
from tunix_rt.errors import FieldViolation, InvalidInput, Violations
from tunix_rt.models.cached_attention import attend_cached
from tunix_rt.models.config import LayerType, ModelConfig
from tunix_rt.models.decoder import Decoder, capped, embed, project_to_vocabulary
from tunix_rt.models.layers import Block, Norm, replace_linear
from tunix_rt.models.output_major import OutputMajorLinear
from tunix_rt.models.parameters import names_on
from tunix_rt.models.quantized import Int8Matrix, QuantizedLinear, product, quantize, quantized_bytes
from tunix_rt.models.rope import rotation
from tunix_rt.models.weight_map import LINEAR_NAMES


class Weights(NamedTuple):
    """A decoder's parameters as `forward_cached` wants them: one `Block` per layer. A pytree."""

    embedding: jax.Array  # [V, H]
    blocks: tuple[Block, ...]
    norm: Norm
    table: jax.Array | Int8Matrix  # [V, H]; the embedding itself where tied
    positions: jax.Array | None = None  # [P, H] where positions are learned


class KVCache(NamedTuple):
    """Keys (rotated) and values of every layer, each [S, KV, C, D]: slots, key heads, capacity, head size. A pytree."""

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]

    @property
    def capacity(self) -> int:
        """Positions that one slot can hold."""
        return int(self.keys[0].shape[2])


def decode_weights(decoder: Decoder, dtype: str = "float32", weight_format: str = "") -> Weights:
    """Unstacked copy of the decoder's parameters in ``dtype`` ("float32" | "bfloat16"); norms stay float32.

    In a ``weight_format`` (see `tunix_rt.contract.weight_formats`) it is ``dtype`` of what the format leaves as it is,
    and of activations. Raises `InvalidInput` for an unknown one, `InvalidArtifact` for weights that it cannot hold.
    """
    found = Violations()
    GENERATION_RULES["weight_format"].check(weight_format, "weight_format", found)
    found.raise_if_any()

    exact = ("norm", "kernel") if weight_format else ("norm",)  # a kernel is rounded once

    def cast(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        is_exact = any(name.endswith(exact) for name in names_on(path))
        return leaf if is_exact else leaf.astype(jnp.dtype(dtype))

    def block_of(layer: int) -> Block:
        block: Block = jax.tree_util.tree_map_with_path(lambda path, leaf: cast(path, leaf[layer]), decoder.blocks)
        for path in LINEAR_NAMES[decoder.config.family]:
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
    """Bytes that the float32 `Weights` of a decoder take in this format; allocates nothing."""
    return quantized_bytes(config) if weight_format == INT8_V1 else config.parameter_count * 4


def init_cache(config: ModelConfig, slots: int, capacity: int, dtype: str = "float32") -> KVCache:
    """An empty cache for ``slots`` sequences of at most ``capacity`` positions.

    Raises `InvalidInput` for a capacity above ``max_position_embeddings`` with ``dynamic`` rope scaling: that turns
    what is in the cache already by other angles with every further position.
    """
    scalings = {config.rope_of(kind)[1].rope_type for kind in config.types_of_layers}
    if "dynamic" in scalings and capacity > config.max_position_embeddings:
        limit = f"must be at most max_position_embeddings = {config.max_position_embeddings} with dynamic rope scaling"
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

    ``tokens`` and ``positions`` are [S, T] i32. A position < 0 is padding: it writes nothing and its result means
    nothing. A token attends to the cached positions ≤ its own, so a slot is reused by starting again at position 0
    without clearing it.
    """
    slot = jnp.arange(tokens.shape[0])[:, None]
    # Out of range on purpose for padding: negative indices would wrap, those past the end are dropped.
    target = jnp.where(positions < 0, cache.capacity, positions)
    seen_positions = jnp.maximum(positions, 0)
    types = config.types_of_layers
    turns = {
        kind: None if config.architecture.learned_positions else rotation(config, seen_positions, kind)
        for kind in dict.fromkeys(types)
    }
    keys: list[jax.Array] = []
    values: list[jax.Array] = []

    dtype = weights.embedding.dtype
    x = embed(config, weights.embedding, weights.positions, tokens, seen_positions, dtype)  # [S, T, H]
    for kind, block, old_keys, old_values in zip(types, weights.blocks, cache.keys, cache.values, strict=True):

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
            window, scale = config.window_of(kind), config.attention_scale
            return attend_cached(query, keys[-1], values[-1], positions, window=window, scale=scale)

        x = block(x, turns[kind], attend)
    return weights.norm(x), KVCache(tuple(keys), tuple(values))


def logits_of(weights: Weights, config: ModelConfig, hidden: jax.Array) -> jax.Array:
    """Logits [..., V] float32 of activations [..., H]."""
    if isinstance(weights.table, Int8Matrix):
        logits = product(hidden.reshape(-1, hidden.shape[-1]), weights.table)
        return capped(config, logits.reshape(*hidden.shape[:-1], -1))
    return project_to_vocabulary(config, hidden, weights.table)
