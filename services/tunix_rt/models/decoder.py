"""The training decoder: token ids in, logits out, all layers stacked and scanned.

Owns the forward pass over whole (possibly packed) sequences. Knows nothing of losses, optimizers, caches or files.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from tunix_rt.models.attention import masked_attention, packed_causal_mask
from tunix_rt.models.config import ModelConfig
from tunix_rt.models.layers import Block, RMSNorm
from tunix_rt.models.rope import rotation


def project_to_vocabulary(hidden: jax.Array, table: jax.Array) -> jax.Array:
    """hidden [..., H] times the output table [V, H]: logits [..., V] float32."""
    return jnp.einsum("...h,vh->...v", hidden, table.astype(hidden.dtype), preferred_element_type=jnp.float32)


def _table(config: ModelConfig, rngs: nnx.Rngs) -> nnx.Param[jax.Array]:
    shape = (config.vocab_size, config.hidden_size)
    return nnx.Param(config.initializer_range * jax.random.normal(rngs.params(), shape, jnp.float32))


class Decoder(nnx.Module):
    """A causal language model; parameters are float32, activations have ``config.compute_dtype``."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.embedding = _table(config, rngs)
        self.blocks = Block(config, rngs=rngs)  # every parameter [L, …]
        self.norm = RMSNorm((config.hidden_size,), epsilon=config.rms_norm_eps)
        # The output table, where it is not the embedding itself.
        self.head = None if config.tie_word_embeddings else _table(config, rngs)

    def hidden(
        self, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array | None = None, *, remat: bool = False
    ) -> jax.Array:
        """Final normed activations [B, T, H] of ``tokens``, ``positions`` and ``segment_ids``, all [B, T] i32.

        Positions count from 0 within each segment. ``remat`` recomputes each layer in the backward pass instead of
        keeping it.
        """
        turn = rotation(self.config, positions)
        mask = packed_causal_mask(tokens.shape[1], segment_ids)

        def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
            return masked_attention(query, key.swapaxes(1, 2), value.swapaxes(1, 2), mask)

        def layer(x: jax.Array, block: Block) -> tuple[jax.Array, None]:
            return block(x, turn, attend), None

        x = self.embedding[...][tokens].astype(jnp.dtype(self.config.compute_dtype))  # [B, T, H]
        step = partial(jax.checkpoint, prevent_cse=False)(layer) if remat else layer
        x, _ = jax.lax.scan(step, x, self.blocks)
        return self.norm(x)

    def output_table(self) -> jax.Array:
        """The matrix [V, H] that turns activations into logits (the embedding itself where tied)."""
        return self.embedding[...] if self.head is None else self.head[...]

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Logits [..., V] float32 of activations [..., H]; apply it to the positions that a loss needs, not to all."""
        return project_to_vocabulary(hidden, self.output_table())

    def __call__(self, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array | None = None) -> jax.Array:
        """Logits [B, T, V] float32 for ``tokens``, ``positions``, ``segment_ids`` [B, T] i32."""
        return self.logits(self.hidden(tokens, positions, segment_ids))
