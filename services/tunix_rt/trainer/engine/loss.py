"""Completion-only, token-weighted cross-entropy that never materialises the logits of a whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

# Maximum number of logits in memory: 16 Mi float32 are 64 MiB.
CHUNK_ELEMENTS = 1 << 24


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LossSums:
    """Sums over target tokens, f32 scalars. Accumulation adds them up before dividing."""

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
    """Weighted sums of −log p(target) and of hits; hidden [N, H], targets [N] i32, weights [N] f32.

    ``project`` maps [n, H] to logits [n, vocab_size] f32; a hit is a target whose logit exceeds every other. Target
    positions are moved to the front and processed in chunks of at most ``chunk_elements`` logits; a chunk without
    targets costs nothing. Gradients are computed chunk by chunk together with the logits (softmax minus one-hot), so no
    logits are kept for the backward pass or computed twice.
    """
    count, width = hidden.shape
    chunk = max(1, min(count, chunk_elements // vocab_size))
    project, captured = jax.closure_convert(project, jax.ShapeDtypeStruct((chunk, width), hidden.dtype))  # type: ignore[no-untyped-call]
    order = jnp.argsort(weights == 0, stable=True)  # targets first, in their order
    rows = jnp.pad(order, (0, -count % chunk), constant_values=count).reshape(-1, chunk)
    # Padding rows are out of range: they read weight 0 here, and nothing is written for them below.
    chunks = (rows, targets.at[rows].get(mode="fill", fill_value=0), weights.at[rows].get(mode="fill", fill_value=0))
    return _sums_of_chunks(project, hidden, chunks, captured)


def zero_sums() -> LossSums:
    """The sums over no tokens."""
    return LossSums(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))


Chunks = tuple[jax.Array, jax.Array, jax.Array]  # positions, targets, weights: each [chunks, chunk]
Projection = Callable[..., jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sums_of_chunks(project: Projection, hidden: jax.Array, chunks: Chunks, captured: list[jax.Array]) -> LossSums:
    def add(total: LossSums, chunk: Chunks) -> tuple[LossSums, None]:
        def sums() -> LossSums:
            return _sums(project(_taken(hidden, chunk[0]), *captured), *chunk[1:])

        return total + jax.lax.cond(chunk[2][0] > 0, sums, zero_sums), None

    return jax.lax.scan(add, zero_sums(), chunks)[0]


def _sums_with_gradients(
    project: Projection, hidden: jax.Array, chunks: Chunks, captured: list[jax.Array]
) -> tuple[LossSums, tuple[jax.Array, list[jax.Array]]]:
    Found = tuple[LossSums, jax.Array, list[jax.Array]]

    def add(found: Found, chunk: Chunks) -> tuple[Found, None]:
        rows, targets, weights = chunk

        def more() -> Found:
            total, of_hidden, of_captured = found
            logits, pull = jax.vjp(project, _taken(hidden, rows), *captured)
            slope = (jax.nn.softmax(logits) - jax.nn.one_hot(targets, logits.shape[-1])) * weights[:, None]
            of_rows, *added = pull(slope)
            return (
                total + _sums(logits, targets, weights),
                of_hidden.at[rows].set(of_rows, mode="drop"),
                jax.tree.map(jnp.add, of_captured, added),
            )

        return jax.lax.cond(weights[0] > 0, more, lambda: found), None

    # Not zeros_like: arrays captured outside a shard_map are on another mesh than arrays computed in it.
    of_nothing = [jnp.zeros(array.shape, array.dtype) for array in captured]
    start = (zero_sums(), jnp.zeros_like(hidden), of_nothing)
    (total, of_hidden, of_captured), _ = jax.lax.scan(add, start, chunks)
    return total, (of_hidden, of_captured)


def _scaled_gradients(
    project: Projection, kept: tuple[jax.Array, list[jax.Array]], slope: LossSums
) -> tuple[jax.Array, None, list[jax.Array]]:
    """Only the summed loss has a gradient; hits and token counts have none."""
    of_hidden, of_captured = jax.tree.map(lambda gradient: (gradient * slope.loss).astype(gradient.dtype), kept)
    return of_hidden, None, of_captured


_sums_of_chunks.defvjp(_sums_with_gradients, _scaled_gradients)


def _taken(hidden: jax.Array, rows: jax.Array) -> jax.Array:
    return hidden.at[rows].get(mode="fill", fill_value=0)


def _sums(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> LossSums:
    """The sums for logits [n, V] f32. Hits count logits ≥ the target's: XLA's argmax on CPU is slow."""
    of_target = jnp.take_along_axis(logits, targets[:, None], axis=-1)
    hits = (jnp.sum(logits >= of_target, axis=-1) == 1).astype(jnp.float32)
    losses = jax.nn.logsumexp(logits, axis=-1) - of_target[:, 0]
    return LossSums(jnp.sum(losses * weights), jnp.sum(hits * weights), jnp.sum(weights))
