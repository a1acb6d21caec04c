"""Completion-only, token-weighted cross-entropy, without ever holding the logits of a whole large batch.

Knows the shapes of activations and the output projection; knows nothing of optimizers or data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

# Logits held at once, in elements: 16 Mi float32 are 64 MiB.
CHUNK_ELEMENTS = 1 << 24


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LossSums:
    """Sums over target tokens, all f32 scalars: what accumulation adds up before anything is divided."""

    loss: jax.Array
    correct: jax.Array
    tokens: jax.Array

    def __add__(self, other: LossSums) -> LossSums:
        return LossSums(self.loss + other.loss, self.correct + other.correct, self.tokens + other.tokens)


def cross_entropy_sums(
    hidden: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    project: Callable[[jax.Array], jax.Array],
    vocab_size: int,
    *,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> LossSums:
    """Weighted sums of −log p(target) and of argmax hits; hidden [N, H], targets [N] i32, weights [N] f32.

    ``project`` maps [n, H] to logits [n, vocab_size] f32. When N · vocab_size exceeds ``chunk_elements``, target
    positions are moved to the front and worked off in chunks whose logits are recomputed in the backward pass; chunks
    without a target cost nothing.
    """
    count = hidden.shape[0]
    chunk = max(1, min(count, chunk_elements // vocab_size))
    if chunk == count:
        return _sums(hidden, targets, weights, project)
    chunks = -(-count // chunk)
    order = jnp.argsort(weights == 0, stable=True)  # targets first, in their order
    order = jnp.pad(order, (0, chunks * chunk - count), constant_values=count)
    rows = order.reshape(chunks, chunk)
    # Out-of-range rows of the padding read weight 0.
    taken_weights = weights.at[rows].get(mode="fill", fill_value=0)
    taken_targets = targets.at[rows].get(mode="fill", fill_value=0)

    @jax.checkpoint
    def of_chunk(x: jax.Array, y: jax.Array, w: jax.Array) -> LossSums:
        return _sums(x, y, w, project)

    def add(total: LossSums, index: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[LossSums, None]:
        row, y, w = index
        sums = jax.lax.cond(
            w[0] > 0,
            lambda: of_chunk(hidden.at[row].get(mode="fill", fill_value=0), y, w),
            zero_sums,
        )
        return total + sums, None

    total, _ = jax.lax.scan(add, zero_sums(), (rows, taken_targets, taken_weights))
    return total


def zero_sums() -> LossSums:
    """The sums over no token."""
    return LossSums(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))


def _sums(
    hidden: jax.Array, targets: jax.Array, weights: jax.Array, project: Callable[[jax.Array], jax.Array]
) -> LossSums:
    logits = project(hidden)  # [n, V] f32
    log_normaliser = jax.nn.logsumexp(logits, axis=-1)
    of_target = jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    hits = (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)
    return LossSums(jnp.sum((log_normaliser - of_target) * weights), jnp.sum(hits * weights), jnp.sum(weights))
