"""The decoder's forward pass over whole (possibly packed) sequences: token ids in, logits out, layers scanned."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tunix_rt.models.attention import causal_attention, soft_capped
from tunix_rt.models.config import LayerType, ModelConfig
from tunix_rt.models.layers import Block, block_at, make_norm
from tunix_rt.models.rope import Rotation, rotation_if, rotation_of


def embed(
    config: ModelConfig,
    table: jax.Array,
    position_table: jax.Array | None,
    tokens: jax.Array,
    positions: jax.Array,
    dtype: jnp.dtype[Any],
) -> jax.Array:
    """Activations [B, T, H] in ``dtype`` of ``tokens`` and ``positions``, both [B, T] i32.

    ``table`` is [V, H]; ``position_table`` is [P, H], or None unless positions are learned.
    """
    x = table[tokens].astype(dtype)
    if config.architecture.scaled_embedding:
        # Rounded to the dtype of the activations, as the model was trained (√1152 is 34 in bfloat16).
        x = x * jnp.asarray(config.hidden_size**0.5, x.dtype)
    if position_table is not None:
        # A position past the table gives NaN; plain indexing would silently take the last row.
        x = x + jnp.take(position_table, positions, axis=0, mode="fill", fill_value=jnp.nan).astype(x.dtype)
    return x


def project_to_vocabulary(config: ModelConfig, hidden: jax.Array, table: jax.Array) -> jax.Array:
    """`capped` logits [..., V] float32 of hidden [..., H] and the output table [V, H]."""
    logits = jnp.einsum("...h,vh->...v", hidden, table.astype(hidden.dtype), preferred_element_type=jnp.float32)
    return capped(config, logits)


def capped(config: ModelConfig, logits: jax.Array) -> jax.Array:
    """Logits with the config's soft cap, if it has one."""
    return soft_capped(logits, config.final_logit_softcapping)


def _table(config: ModelConfig, rows: int, rngs: nnx.Rngs) -> nnx.Param[jax.Array]:
    shape = (rows, config.hidden_size)
    return nnx.Param(config.initializer_range * jax.random.normal(rngs.params(), shape, jnp.float32))


class Decoder(nnx.Module):
    """A causal language model. Parameters are float32, activations have ``config.compute_dtype``."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embedding = _table(config, config.vocab_size, rngs)
        learned = config.architecture.learned_positions
        self.positions = _table(config, config.max_position_embeddings, rngs) if learned else None
        self.blocks = Block(config, rngs=rngs)  # every parameter [L, …]
        self.norm = make_norm(config, (config.hidden_size,))
        # The output table, unless it is tied to the embedding.
        self.head = None if config.tie_word_embeddings else _table(config, config.vocab_size, rngs)

    def hidden(
        self, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array | None = None, *, remat: bool = False
    ) -> jax.Array:
        """Final normalised activations [B, T, H] of ``tokens``, ``positions`` and ``segment_ids``, all [B, T] i32.

        Positions count from 0 within each segment. ``remat`` recomputes each layer in the backward pass instead of
        keeping its activations.
        """
        config = self.config
        types = config.types_of_layers
        # Rotation and window are computed once per layer type; a flag selects them inside the scan.
        by_type = {kind: self._rotation_and_window(kind, positions, segment_ids) for kind in dict.fromkeys(types)}
        slides = np.asarray([kind == "sliding_attention" for kind in types])
        turns = np.asarray([index not in config.unrotated_layers for index in range(config.num_hidden_layers)])

        def layer(x: jax.Array, scanned: tuple[Block, jax.Array | None, jax.Array | None]) -> tuple[jax.Array, None]:
            block, is_sliding, is_turning = scanned
            if is_sliding is None:
                rotation, window = by_type[types[0]]
            else:
                rotation, window = jax.tree.map(
                    partial(jnp.where, is_sliding), by_type["sliding_attention"], by_type["full_attention"]
                )
            if is_turning is not None and rotation is not None:
                rotation = rotation_if(is_turning, rotation)

            def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
                key, value = key.swapaxes(1, 2), value.swapaxes(1, 2)
                scale, cap = config.attention_scale, config.attention_softcapping
                return causal_attention(query, key, value, segment_ids, window=window, scale=scale, cap=cap)

            return block(x, rotation, attend), None

        position_table = None if self.positions is None else self.positions[...]
        dtype = jnp.dtype(config.compute_dtype)
        x = embed(config, self.embedding[...], position_table, tokens, positions, dtype)  # [B, T, H]
        step = partial(jax.checkpoint, prevent_cse=False)(layer) if remat else layer
        sliding = jnp.asarray(slides) if len(by_type) > 1 else None
        turning = None if turns.all() else jnp.asarray(turns)
        if config.mlp_layers and config.sparse_layers:
            # The two kinds of layers are stacked apart, and no scan runs over both.
            for index in range(config.num_hidden_layers):
                flags = (None if sliding is None else sliding[index], None if turning is None else turning[index])
                x, _ = step(x, (block_at(self.blocks, config, index), *flags))
        else:
            x, _ = jax.lax.scan(step, x, (self.blocks, sliding, turning))
        return self.norm(x)

    def _rotation_and_window(
        self, layer_type: LayerType, positions: jax.Array, segment_ids: jax.Array | None
    ) -> tuple[Rotation | None, jax.Array | None]:
        """Rotation (None if positions are learned) and window (i32 scalar, None if no layer has one) of a type."""
        config = self.config
        learned = config.architecture.learned_positions
        rotation = None if learned else rotation_of(config, positions, layer_type, segment_ids=segment_ids)
        if config.sliding_window is None:
            return rotation, None
        return rotation, jnp.asarray(config.window_of(layer_type) or positions.shape[1], jnp.int32)

    def output_table(self) -> jax.Array:
        """The output table [V, H]; the embedding itself if tied."""
        return self.embedding[...] if self.head is None else self.head[...]

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Logits [..., V] float32 of activations [..., H]. Apply it only to positions that need logits."""
        return project_to_vocabulary(self.config, hidden, self.output_table())

    def __call__(self, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array | None = None) -> jax.Array:
        """Logits [B, T, V] float32 for ``tokens``, ``positions``, ``segment_ids`` [B, T] i32."""
        return self.logits(self.hidden(tokens, positions, segment_ids))
