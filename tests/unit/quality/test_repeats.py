"""pass@k and maj@k: the published estimator, draws by enumeration, and intervals over items."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from tunix_rt.quality.repeats import Samples, best_value, repeat_estimates
from tunix_rt.quality.statistics_2 import estimate_mean


def _published(n: int, c: int, k: int) -> float:
    """The estimator as Chen et al. 2021 print it (arXiv 2107.03374, figure 3)."""
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


@pytest.mark.parametrize(("n", "c"), [(1, 0), (1, 1), (5, 2), (10, 0), (10, 10), (64, 3), (200, 17)])
def test_pass_at_k_equals_the_published_estimator(n: int, c: int) -> None:
    for k in {1, min(2, n), n // 2 or 1, n}:
        found = best_value([1.0] * c + [0.0] * (n - c), k)
        assert found == pytest.approx(_published(n, c, k), abs=1e-12)
        assert found == float(1 - Fraction(comb(n - c, k), comb(n, k)))


def test_graded_values_give_the_expected_best_of_every_draw() -> None:
    values = [0.25, 0.5, 0.5, 0.0, 1.0, 0.125]
    for k in range(1, 7):
        draws = [max(draw) for draw in combinations(values, k)]
        assert best_value(values, k) == pytest.approx(sum(draws) / len(draws), abs=1e-15)


def _items(count: int, samples: int, seed: int = 1) -> list[Samples]:
    source = random.Random(seed)
    return [
        Samples(
            tuple(("right", 1.0) if source.random() < 0.1 * (i % 10) else (f"w{j % 3}", 0.0) for j in range(samples)),
            f"c{i % 8}",
        )
        for i in range(count)
    ]


def test_sizes_are_powers_of_two_and_the_number_itself() -> None:
    found = repeat_estimates(_items(20, 6), 6)
    assert [(each.statistic, each.k) for each in found] == [
        (name, k) for name in ("pass@k", "maj@k") for k in (1, 2, 4, 6)
    ]
    assert [each.k for each in repeat_estimates(_items(20, 8), 8)][:4] == [1, 2, 4, 8]
    assert repeat_estimates(_items(20, 1), 1) == ()


def test_one_sample_is_worth_the_mean_whichever_way() -> None:
    items = [Samples((("a", 1.0), ("b", 0.0))), Samples((("a", 1.0), ("a", 1.0)))]
    found = {(each.statistic, each.k): each.value for each in repeat_estimates(items, 2)}
    assert found == {("pass@k", 1): 0.75, ("pass@k", 2): 1.0, ("maj@k", 1): 0.75, ("maj@k", 2): 0.75}


def test_intervals_are_those_of_items_in_their_clusters() -> None:
    items = _items(40, 4)
    found = next(each for each in repeat_estimates(items, 4) if (each.statistic, each.k) == ("pass@k", 2))
    values = [_published(4, sum(v == 1.0 for _, v in item.votes), 2) for item in items]
    expected = estimate_mean(values, [item.cluster_id for item in items])
    assert found.value == pytest.approx(np.mean(values), abs=1e-12)
    assert (found.ci_low, found.ci_high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert found.ci_method == "cluster_bounded_score"


def test_any_of_all_samples_is_a_proportion_of_items() -> None:
    items = [Samples((("a", float(i < 12)), ("b", 0.0))) for i in range(40)]
    found = next(each for each in repeat_estimates(items, 2) if (each.statistic, each.k) == ("pass@k", 2))
    assert (found.ci_low, found.ci_high) == pytest.approx(proportion_confint(12, 40, method="wilson"), abs=1e-9)


def test_items_with_too_few_scored_samples_do_not_count() -> None:
    items = [Samples((("a", 1.0), ("b", 0.0), ("b", 0.0))), Samples((("a", 0.0),)), Samples(())]
    found = {(each.statistic, each.k): (each.n_items, each.value) for each in repeat_estimates(items, 4)}
    assert found[("pass@k", 1)] == (2, pytest.approx(1 / 6))
    assert found[("pass@k", 2)] == (1, pytest.approx(2 / 3))
    assert ("pass@k", 4) not in found


def test_majority_is_left_out_where_answers_were_not_recorded() -> None:
    right = [Samples((("", 1.0), ("", 0.0)))]
    assert {each.statistic for each in repeat_estimates(right, 2)} == {"pass@k"}
    never = [Samples((("", 0.0), ("", 0.0)))]
    assert {each.statistic: each.value for each in repeat_estimates(never, 2)} == {"pass@k": 0.0, "maj@k": 0.0}
