"""The compiled programs of the JAX engine: pure functions of arrays.

Every shape is fixed by (config, slots, capacity, chunk, steps), and weights are arguments, never closures. Models of
one shape share their programs within a process, and nothing is compiled after warm-up. The cache and ``seen`` are
donated, so a dispatch updates them in place.

Within one compiled program a row's result does not depend on its neighbours, its row number or the number of steps per
dispatch. This makes a request's tokens independent of the load.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.inferencer.generation import MAX_TOP_LOGPROBS
from tunix_rt.inferencer.sampling import SamplingRows, choose_tokens
from tunix_rt.models.cached import KVCache, Weights, forward_cached, logits_of
from tunix_rt.models.config import ModelConfig


class DecodeRows(NamedTuple):
    """State of S slots at the start of a dispatch."""

    token: np.ndarray  # [S] i32: the last chosen token, not processed yet
    position: np.ndarray  # [S] i32: its position
    active: np.ndarray  # [S] bool
    remaining: np.ndarray  # [S] i32: tokens that may still be chosen
    stop_ids: np.ndarray  # [S, E] i32, padded with -1
    wants_top: np.ndarray  # [S] bool
    wants_processed: np.ndarray  # [S] bool
    sampling: SamplingRows


class DispatchLimits(NamedTuple):
    """When a dispatch ends before its last step."""

    steps: np.int32  # maximum number of steps
    leave_early: np.bool_  # as soon as a row has stopped


class DecodeOutput(NamedTuple):
    """The result of K steps. A row's unused steps have token -1."""

    tokens: jax.Array  # [S, K] i32
    logprobs: jax.Array  # [S, K] f32, of the raw distribution
    processed: jax.Array  # [S, K] f32, of the distribution that was sampled from; 0 unless wanted
    top_ids: jax.Array  # [S, K, N] i32; undefined unless wanted
    top_logprobs: jax.Array  # [S, K, N] f32


class ChunkScores(NamedTuple):
    """Scores of the tokens that follow a chunk's W tokens; undefined for padding."""

    logprobs: jax.Array  # [W] f32, of the raw distribution
    top_ids: jax.Array  # [W, N] i32; undefined unless wanted
    top_logprobs: jax.Array  # [W, N] f32


@partial(jax.jit, static_argnames=("config",), donate_argnames=("cache",))
def prefill_chunk(
    weights: Weights, cache: KVCache, tokens: jax.Array, positions: jax.Array, slot: jax.Array, *, config: ModelConfig
) -> KVCache:
    """The cache with one chunk of one slot's prompt: ``tokens``, ``positions`` [W] i32 (-1 is padding), ``slot`` i32.

    Chunks begin at multiples of W, so a chunk's keys and values depend only on the tokens up to its end.
    """
    _, row = forward_cached(weights, config, tokens[None], positions[None], _row_of(cache, slot))
    return _with_row(cache, row, slot)


@partial(jax.jit, static_argnames=("config", "top"), donate_argnames=("cache",))
def score_chunk(
    weights: Weights,
    cache: KVCache,
    tokens: jax.Array,
    positions: jax.Array,
    following: jax.Array,
    slot: jax.Array,
    wants_top: jax.Array,
    *,
    config: ModelConfig,
    top: int,
) -> tuple[KVCache, ChunkScores]:
    """`prefill_chunk` that also scores ``following`` [W] i32: the token after each of ``tokens``.

    Logits exist for one chunk of one slot at a time, [W, V]. Alternatives are computed only if ``wants_top`` (bool).
    It is a separate program because plain prefill needs neither logits nor the last layer's activations.
    """
    hidden, row = forward_cached(weights, config, tokens[None], positions[None], _row_of(cache, slot))
    logits = logits_of(weights, config, hidden[0])  # [W, V]
    normaliser = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    logprobs = jnp.take_along_axis(logits, following[:, None], axis=-1) - normaliser  # [W, 1]
    top_ids, top_logprobs = _runners_up(logits, normaliser, wants_top, top)
    return _with_row(cache, row, slot), ChunkScores(logprobs[:, 0], top_ids, top_logprobs)


@partial(jax.jit, donate_argnames=("pages",))
def keep_chunk(pages: KVCache, cache: KVCache, slot: jax.Array, start: jax.Array, page: jax.Array) -> KVCache:
    """``pages`` (a cache of P "slots" of W positions) with one page copied from a slot's W positions from ``start``."""

    def copied(all_pages: jax.Array, whole: jax.Array) -> jax.Array:
        _, heads, width, size = all_pages.shape
        part = jax.lax.dynamic_slice(whole, (slot, 0, start, 0), (1, heads, width, size))
        return jax.lax.dynamic_update_slice_in_dim(all_pages, part, page, axis=0)

    kept: KVCache = jax.tree.map(copied, pages, cache)
    return kept


@partial(jax.jit, donate_argnames=("cache",))
def restore_chunk(cache: KVCache, pages: KVCache, page: jax.Array, slot: jax.Array, start: jax.Array) -> KVCache:
    """The cache with a page written to a slot's W positions from ``start``: bit for bit what prefill wrote."""

    def copied(whole: jax.Array, all_pages: jax.Array) -> jax.Array:
        part = jax.lax.dynamic_slice_in_dim(all_pages, page, 1, axis=0)
        return jax.lax.dynamic_update_slice(whole, part, (slot, 0, start, 0))

    restored: KVCache = jax.tree.map(copied, cache, pages)
    return restored


@partial(jax.jit, donate_argnames=("seen",))
def set_seen(seen: jax.Array, slot: jax.Array, row: jax.Array) -> jax.Array:
    """``seen`` [S, V] bool with one row [V] replaced."""
    return jax.lax.dynamic_update_slice_in_dim(seen, row[None], slot, axis=0)


class _Loop(NamedTuple):
    step: jax.Array
    cache: KVCache
    seen: jax.Array
    token: jax.Array
    position: jax.Array
    active: jax.Array
    remaining: jax.Array
    output: DecodeOutput


@partial(jax.jit, static_argnames=("config", "steps"), donate_argnames=("cache", "seen"))
def decode_steps(
    weights: Weights,
    cache: KVCache,
    seen: jax.Array,
    rows: DecodeRows,
    limits: DispatchLimits,
    *,
    config: ModelConfig,
    steps: int,
) -> tuple[KVCache, jax.Array, DecodeOutput]:
    """Up to ``steps`` tokens per active row, within the ``limits``; ends when no row is active."""
    slots = rows.token.shape[0]
    started = jnp.asarray(rows.active)
    stop_ids = jnp.asarray(rows.stop_ids)
    wants_top = jnp.asarray(rows.wants_top)
    wants_processed = jnp.asarray(rows.wants_processed)

    def proceed(loop: _Loop) -> jax.Array:
        some_row_stopped = jnp.any(started & ~loop.active)
        within = loop.step < jnp.minimum(limits.steps, steps)
        return within & jnp.any(loop.active) & ~(limits.leave_early & some_row_stopped)

    def advance(loop: _Loop) -> _Loop:
        positions = jnp.where(loop.active, loop.position, -1)
        hidden, cache = forward_cached(weights, config, loop.token[:, None], positions[:, None], loop.cache)
        logits = logits_of(weights, config, hidden[:, 0])  # [S, V]
        chosen, processed = choose_tokens(logits, loop.seen, rows.sampling, loop.position + 1, wants_processed)
        output = _record(loop, logits, chosen, processed, wants_top)
        stopped = jnp.any(chosen[:, None] == stop_ids, axis=-1) | (loop.remaining <= 1)
        active = loop.active
        return _Loop(
            step=loop.step + 1,
            cache=cache,
            seen=loop.seen.at[jnp.arange(slots), chosen].max(active),
            token=jnp.where(active, chosen, loop.token),
            position=jnp.where(active, loop.position + 1, loop.position),
            active=active & ~stopped,
            remaining=jnp.where(active, loop.remaining - 1, loop.remaining),
            output=output,
        )

    first = _Loop(
        step=jnp.int32(0),
        cache=cache,
        seen=seen,
        token=jnp.asarray(rows.token),
        position=jnp.asarray(rows.position),
        active=started,
        remaining=jnp.asarray(rows.remaining),
        output=_empty_output(slots, steps, min(MAX_TOP_LOGPROBS, seen.shape[1])),
    )
    last = jax.lax.while_loop(proceed, advance, first)
    return last.cache, last.seen, last.output


def _empty_output(slots: int, steps: int, top: int) -> DecodeOutput:
    return DecodeOutput(
        jnp.full((slots, steps), -1, jnp.int32),
        jnp.zeros((slots, steps), jnp.float32),
        jnp.zeros((slots, steps), jnp.float32),
        jnp.zeros((slots, steps, top), jnp.int32),
        jnp.zeros((slots, steps, top), jnp.float32),
    )


def _record(
    loop: _Loop, logits: jax.Array, chosen: jax.Array, processed: jax.Array, wants_top: jax.Array
) -> DecodeOutput:
    output = loop.output
    top = output.top_ids.shape[-1]
    normaliser = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    logprob = jnp.take_along_axis(logits, chosen[:, None], axis=-1) - normaliser  # [S, 1]

    top_ids, top_logprobs = _runners_up(logits, normaliser, jnp.any(wants_top & loop.active), top)
    at = loop.step
    return DecodeOutput(
        output.tokens.at[:, at].set(jnp.where(loop.active, chosen, -1)),
        output.logprobs.at[:, at].set(logprob[:, 0]),
        output.processed.at[:, at].set(processed),
        output.top_ids.at[:, at].set(top_ids),
        output.top_logprobs.at[:, at].set(top_logprobs),
    )


def _runners_up(logits: jax.Array, normaliser: jax.Array, wanted: jax.Array, top: int) -> tuple[jax.Array, jax.Array]:
    """Ids and log-probabilities [R, N] of the ``top`` most likely tokens of ``logits`` [R, V]; zeros unless wanted."""

    def found() -> tuple[jax.Array, jax.Array]:
        values, ids = jax.lax.top_k(logits, top)
        return ids.astype(jnp.int32), values - normaliser

    def none() -> tuple[jax.Array, jax.Array]:
        shape = (logits.shape[0], top)
        return jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32)

    ids, logprobs = jax.lax.cond(wanted, found, none)
    return ids, logprobs


def _row_of(cache: KVCache, slot: jax.Array) -> KVCache:
    row: KVCache = jax.tree.map(lambda whole: jax.lax.dynamic_slice_in_dim(whole, slot, 1, axis=0), cache)
    return row


def _with_row(cache: KVCache, row: KVCache, slot: jax.Array) -> KVCache:
    updated: KVCache = jax.tree.map(
        lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, slot, axis=0), cache, row
    )
    return updated
