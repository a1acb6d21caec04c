"""Choosing tokens: filters against NumPy's sort, draws against the exact softmax (chi-squared)."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy import stats

from tunix_rt.inferencer.generation import Sampling
from tunix_rt.inferencer.sampling import choose_tokens, empty_rows, filtered, penalise_repetition, write_row

VOCABULARY = 37
LOGITS = np.random.default_rng(7).normal(0, 2, VOCABULARY).astype(np.float32)


def draws(sampling: Sampling, count: int, logits: np.ndarray = LOGITS) -> np.ndarray:
    rows = empty_rows(count)
    for slot in range(count):
        write_row(rows, slot, sampling)
    seen = np.zeros((count, len(logits)), np.bool_)
    positions = np.arange(count, dtype=np.int32)
    chosen, _ = jax.jit(choose_tokens)(np.tile(logits, (count, 1)), seen, rows, positions, np.zeros(count, np.bool_))
    return np.asarray(chosen)


def kept(sampling: Sampling, logits: np.ndarray = LOGITS) -> set[int]:
    rows = empty_rows(1)
    write_row(rows, 0, sampling)
    return set(np.flatnonzero(np.asarray(filtered(logits[None], rows)[1])[0]).tolist())


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_draws_follow_the_exact_softmax(temperature: float) -> None:
    count = 40_000
    observed = np.bincount(draws(Sampling(temperature=temperature, seed=11), count), minlength=VOCABULARY)
    expected = softmax(LOGITS / temperature) * count
    common = expected >= 5
    observed = np.append(observed[common], observed[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    nonzero = expected > 0
    assert stats.chisquare(observed[nonzero], expected[nonzero]).pvalue > 1e-4


def test_filtered_draws_follow_the_renormalised_softmax() -> None:
    count, sampling = 20_000, Sampling(temperature=1.0, top_k=5, seed=-3)
    best = np.argsort(-LOGITS)[:5]
    observed = np.bincount(draws(sampling, count), minlength=VOCABULARY)
    assert observed.sum() == observed[best].sum()
    assert stats.chisquare(observed[best], softmax(LOGITS[best]) * count).pvalue > 1e-4


@pytest.mark.parametrize("top_k", [1, 2, 7, VOCABULARY, VOCABULARY + 5])
def test_top_k_keeps_the_k_largest(top_k: int) -> None:
    assert kept(Sampling(temperature=0.7, top_k=top_k)) == set(np.argsort(-LOGITS)[:top_k].tolist())


@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.8, 0.95, 0.999])
def test_top_p_keeps_the_smallest_set_that_holds_the_mass(top_p: float) -> None:
    order = np.argsort(-LOGITS)
    mass = np.cumsum(softmax(LOGITS)[order])
    size = int(np.searchsorted(mass, top_p)) + 1
    assert kept(Sampling(temperature=1.0, top_p=top_p)) == set(order[:size].tolist())


def test_top_p_counts_mass_after_top_k() -> None:
    # Probabilities 0.4, 0.3, 0.2, 0.1: top-k 2 leaves 4/7 and 3/7, so that 0.5 needs the first alone.
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))
    assert kept(Sampling(temperature=1.0, top_p=0.5), logits) == {0, 1}
    assert kept(Sampling(temperature=1.0, top_p=0.5, top_k=2), logits) == {0}


def test_min_p_is_relative_to_the_most_likely() -> None:
    logits = np.log(np.array([0.5, 0.26, 0.2, 0.04], np.float32))
    assert kept(Sampling(temperature=1.0, min_p=0.5), logits) == {0, 1}
    assert kept(Sampling(temperature=1.0, min_p=0.05), logits) == {0, 1, 2, 3}


def test_ties_at_the_threshold_are_all_kept() -> None:
    logits = np.array([1.0, 2.0, 2.0, 0.0], np.float32)
    assert kept(Sampling(temperature=1.0, top_k=1), logits) == {1, 2}


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = np.array([[3.0, -3.0, 3.0]], np.float32)
    seen = np.array([[True, True, False]])
    penalised = penalise_repetition(logits, seen, np.array([2.0], np.float32))
    np.testing.assert_array_equal(np.asarray(penalised), [[1.5, -6.0, 3.0]])


def test_greedy_ignores_seed_and_filters() -> None:
    for sampling in (Sampling(seed=1), Sampling(seed=2, top_k=3, top_p=0.1), Sampling(temperature=1e-9)):
        assert set(draws(sampling, 4).tolist()) == {int(np.argmax(LOGITS))}


def test_a_draw_depends_on_seed_and_position_and_not_on_its_row_or_neighbours() -> None:
    sampling = Sampling(temperature=1.3, top_p=0.9, seed=123456789012345)
    base = draws(sampling, 64)
    rows = empty_rows(64)
    for slot in range(64):
        write_row(rows, slot, sampling if slot % 2 else Sampling(temperature=0.3, top_k=2, seed=slot))
    positions = np.arange(64, dtype=np.int32)[::-1].copy()
    seen = np.zeros((64, VOCABULARY), np.bool_)
    wanted = np.arange(64) % 3 == 0
    chosen, _ = jax.jit(choose_tokens)(np.tile(LOGITS, (64, 1)), seen, rows, positions, wanted)
    mixed = np.asarray(chosen)
    for slot in range(1, 64, 2):
        assert mixed[slot] == base[63 - slot]


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1, -(2**63), 1 << 32])
def test_every_seed_has_its_own_key(seed: int) -> None:
    rows = empty_rows(1)
    write_row(rows, 0, Sampling(temperature=1.0, seed=seed))
    high, low = (int(word) for word in rows.key[0])
    assert (high << 32 | low) == seed % 2**64


def test_a_processed_logprob_is_that_of_the_distribution_that_was_drawn_from() -> None:
    kinds = [
        Sampling(temperature=0.7, seed=3),
        Sampling(temperature=1.5, top_k=5, seed=4),
        Sampling(temperature=1.0, top_p=0.6, repetition_penalty=1.7, seed=5),
        Sampling(repetition_penalty=1.7),
        Sampling(temperature=1.0, seed=6),
    ]
    rows, wanted = empty_rows(len(kinds)), np.array([True, True, True, True, False])
    for slot, sampling in enumerate(kinds):
        write_row(rows, slot, sampling)
    seen = np.zeros((len(kinds), VOCABULARY), np.bool_)
    seen[:, ::2] = True
    logits, positions = np.tile(LOGITS, (len(kinds), 1)), np.arange(len(kinds), dtype=np.int32)
    chosen, processed = (np.asarray(x) for x in jax.jit(choose_tokens)(logits, seen, rows, positions, wanted))
    penalties = np.array([sampling.repetition_penalty for sampling in kinds], np.float32)
    penalised = np.asarray(penalise_repetition(logits, seen, penalties))
    for slot, sampling in enumerate(kinds[:4]):
        left = penalised[slot].astype(np.float64) / (sampling.temperature or 1.0)
        for token in set(range(VOCABULARY)) - kept(sampling, penalised[slot]):
            left[token] = -np.inf
        assert processed[slot] == pytest.approx(np.log(softmax(left)[chosen[slot]]), abs=1e-5)
    assert processed[4] == 0.0
