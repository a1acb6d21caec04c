"""Token sampling from logits, row by row, inside a compiled program. Pure.

The order of the filters is that of Hugging Face Transformers: repetition penalty, temperature, top-k, top-p, min-p.
Sorting a large vocabulary on a CPU costs more than a small model's forward pass, so top-k and top-p find their
threshold by bisection over the ordered bit patterns of the logits, in 32 exact steps. Every token that equals the
threshold is kept, so the result does not depend on the order of ties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tunix_rt.inferencer.generation import Sampling


class SamplingRows(NamedTuple):
    """Sampling parameters of S rows, as arrays."""

    temperature: jax.Array | np.ndarray  # [S] f32; 0 is greedy
    top_k: jax.Array | np.ndarray  # [S] i32; 0 is off
    top_p: jax.Array | np.ndarray  # [S] f32; 1 is off
    min_p: jax.Array | np.ndarray  # [S] f32; 0 is off
    repetition_penalty: jax.Array | np.ndarray  # [S] f32; 1 is off
    key: jax.Array | np.ndarray  # [S, 2] u32: the high and low word of the seed


def empty_rows(slots: int) -> SamplingRows:
    """Greedy rows, writable on the host."""
    return SamplingRows(
        np.zeros(slots, np.float32),
        np.zeros(slots, np.int32),
        np.ones(slots, np.float32),
        np.zeros(slots, np.float32),
        np.ones(slots, np.float32),
        np.zeros((slots, 2), np.uint32),
    )


def write_row(rows: SamplingRows, slot: int, sampling: Sampling) -> None:
    """Set one row of host arrays. The key words are the seed's two's complement: every int64 has its own key."""
    rows.temperature[slot] = 0.0 if sampling.greedy else sampling.temperature
    rows.top_k[slot] = sampling.top_k
    rows.top_p[slot] = sampling.top_p
    rows.min_p[slot] = sampling.min_p
    rows.repetition_penalty[slot] = sampling.repetition_penalty
    seed = sampling.seed & 0xFFFF_FFFF_FFFF_FFFF
    rows.key[slot] = (seed >> 32, seed & 0xFFFF_FFFF)


def choose_tokens(
    logits: jax.Array, seen: jax.Array, rows: SamplingRows, positions: jax.Array, wants_processed: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The chosen token of each row [S] i32, and its log-probability in the distribution it was chosen from [S] f32.

    ``logits`` [S, V] f32; ``seen`` [S, V] bool: tokens in prompt or answer so far; ``positions`` [S] i32: position of
    the chosen token, folded into the row's key. The log-probability, after penalty, temperature and filters (greedy:
    after the penalty), is computed for rows with ``wants_processed`` [S] bool, else 0. Gumbel-max sampling: the argmax
    of log-probability plus Gumbel noise is a draw from the softmax (Maddison et al. 2014, arXiv 1411.0030).
    """
    penalised = penalise_repetition(logits, seen, jnp.asarray(rows.repetition_penalty))
    scaled, keep = filtered(penalised, rows)
    sampled = jnp.asarray(rows.temperature) > 0
    noise = jax.lax.cond(
        jnp.any(sampled),
        lambda: _gumbel(jnp.asarray(rows.key), positions, logits.shape[1]),
        lambda: jnp.zeros_like(logits),
    )
    drawn = jnp.where(keep, scaled + noise, -jnp.inf)
    chosen = jnp.argmax(jnp.where(sampled[:, None], drawn, penalised), axis=-1).astype(jnp.int32)

    def processed() -> jax.Array:
        left = jnp.where(sampled[:, None], jnp.where(keep, scaled, -jnp.inf), penalised)
        logprob = jnp.take_along_axis(jax.nn.log_softmax(left, axis=-1), chosen[:, None], axis=-1)[:, 0]
        return jnp.where(wants_processed, logprob, 0)

    wanted = jnp.any(wants_processed)
    return chosen, jax.lax.cond(wanted, processed, lambda: jnp.zeros(chosen.shape, jnp.float32))


def penalise_repetition(logits: jax.Array, seen: jax.Array, penalty: jax.Array) -> jax.Array:
    """Logits [S, V] of seen tokens divided (> 0) or multiplied (< 0) by ``penalty`` [S] (CTRL, arXiv 1909.05858)."""
    factor = penalty[:, None]
    return jnp.where(seen, jnp.where(logits > 0, logits / factor, logits * factor), logits)


def filtered(logits: jax.Array, rows: SamplingRows) -> tuple[jax.Array, jax.Array]:
    """Temperature-scaled logits with maximum 0 [S, V], and the tokens kept by top-k, top-p and min-p [S, V] bool."""
    temperature = jnp.asarray(rows.temperature)
    top_k = jnp.asarray(rows.top_k)
    top_p = jnp.asarray(rows.top_p)
    sampled = temperature > 0
    shifted = logits - jnp.max(logits, axis=-1, keepdims=True)
    scaled = shifted / jnp.where(sampled, temperature, jnp.float32(1))[:, None]
    bits = _ordered_bits(scaled)
    nothing = jnp.zeros(logits.shape[0], jnp.uint32)

    with_k = sampled & (top_k > 0)
    k_threshold = jax.lax.cond(
        jnp.any(with_k), lambda: jnp.where(with_k, _top_k_threshold(bits, top_k), 0), lambda: nothing
    )
    kept_by_k = bits >= k_threshold[:, None]

    with_p = sampled & (top_p < 1)
    p_threshold = jax.lax.cond(
        jnp.any(with_p), lambda: jnp.where(with_p, _top_p_threshold(bits, scaled, kept_by_k, top_p), 0), lambda: nothing
    )
    kept_by_p = bits >= p_threshold[:, None]
    # p / p_max >= min_p, in logarithms; log 0 = -inf keeps everything.
    kept_by_min_p = scaled >= jnp.log(jnp.asarray(rows.min_p))[:, None]
    return scaled, kept_by_k & kept_by_p & kept_by_min_p


def _gumbel(key_words: jax.Array, positions: jax.Array, vocabulary: int) -> jax.Array:
    """Gumbel noise [S, V] f32; row s depends only on its key and position."""

    def one(words: jax.Array, position: jax.Array) -> jax.Array:
        key = jax.random.wrap_key_data(words, impl="threefry2x32")
        return jax.random.gumbel(jax.random.fold_in(key, position), (vocabulary,), jnp.float32)

    return jax.vmap(one)(key_words, positions)


def _ordered_bits(values: jax.Array) -> jax.Array:
    """Map f32 to u32, preserving the order (NaN excluded)."""
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    negative = (bits >> 31) == 1
    return jnp.where(negative, ~bits, bits | jnp.uint32(0x8000_0000))


def _top_k_threshold(bits: jax.Array, top_k: jax.Array) -> jax.Array:
    """[S] u32: the k-th largest of each row (0 when k exceeds the vocabulary)."""

    def enough(threshold: jax.Array) -> jax.Array:
        return jnp.sum(bits >= threshold[:, None], axis=-1, dtype=jnp.int32) >= top_k

    return _largest(enough, bits.shape[0])


def _top_p_threshold(bits: jax.Array, scaled: jax.Array, kept: jax.Array, top_p: jax.Array) -> jax.Array:
    """[S] u32: the largest threshold at which the kept tokens hold at least ``top_p`` of the kept mass."""
    weight = jnp.where(kept, jnp.exp(scaled), 0)
    wanted = top_p * jnp.sum(weight, axis=-1)

    def enough(threshold: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(bits >= threshold[:, None], weight, 0), axis=-1) >= wanted

    return _largest(enough, bits.shape[0])


def _largest(holds: Callable[[jax.Array], jax.Array], rows: int) -> jax.Array:
    """[S] u32: the largest x with ``holds(x)`` [S] bool, a monotonic predicate."""

    def step(i: jax.Array, found: jax.Array) -> jax.Array:
        candidate = found | (jnp.uint32(0x8000_0000) >> i.astype(jnp.uint32))
        return jnp.where(holds(candidate), candidate, found)

    found: jax.Array = jax.lax.fori_loop(0, 32, step, jnp.zeros(rows, jnp.uint32))
    return found
