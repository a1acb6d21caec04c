"""Paired statistics against SciPy, statsmodels and restricted likelihoods maximised numerically."""

from __future__ import annotations

import random
from itertools import product
from math import fsum, log, sqrt

import pytest
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests

from tunix_rt.quality.paired import (
    holm,
    items_to_detect,
    items_to_exclude,
    mcnemar_mid_p,
    mcnemar_mid_p_two_sided,
    sign_flip_p,
    tango_interval,
)


def _peer_score(regressions: int, fixes: int, n: int, difference: float) -> float:
    """Tango's statistic with the restricted MLE found by numerical maximisation instead of the closed form."""

    def negative_log_likelihood(worse: float) -> float:
        better = worse + difference
        same = 1 - worse - better
        terms = ((regressions, worse), (fixes, better), (n - regressions - fixes, same))
        return -sum(count * log(max(p, 1e-300)) for count, p in terms if count)

    low, high = max(0.0, -difference), (1 - difference) / 2
    found = optimize.minimize_scalar(
        negative_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-14}
    )
    ends = min((low, high), key=negative_log_likelihood)
    worse = found.x if found.fun <= negative_log_likelihood(ends) else ends
    variance = (2 * worse + difference - difference**2) / n
    return ((fixes - regressions) / n - difference) / sqrt(variance)


@pytest.mark.parametrize(
    ("regressions", "fixes", "n"),
    [(2, 12, 50), (0, 5, 30), (1, 0, 100), (8, 2, 100), (10, 10, 40), (0, 3, 3), (30, 45, 400)],
)
@pytest.mark.parametrize("confidence", [0.90, 0.95])
def test_tango_bounds_solve_the_score_equation_of_an_independent_mle(
    regressions: int, fixes: int, n: int, confidence: float
) -> None:
    z = stats.norm.ppf(0.5 + confidence / 2)
    low, high = tango_interval(regressions, fixes, n, confidence)
    assert low < (fixes - regressions) / n <= high
    assert _peer_score(regressions, fixes, n, low) == pytest.approx(z, rel=1e-4)
    if high < 1:
        assert _peer_score(regressions, fixes, n, high) == pytest.approx(-z, rel=1e-4)


def test_tango_without_discordant_items_has_its_closed_form() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    assert tango_interval(0, 0, 100) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)), abs=1e-12)


def test_tango_is_symmetric_and_reaches_the_ends() -> None:
    low, high = tango_interval(3, 9, 60)
    assert tango_interval(9, 3, 60) == pytest.approx((-high, -low), abs=1e-12)
    assert tango_interval(10, 0, 10)[0] == -1.0
    assert tango_interval(0, 10, 10)[1] == 1.0


@pytest.mark.parametrize(("regressions", "fixes"), [(1, 0), (4, 0), (8, 2), (3, 3), (0, 4), (25, 13)])
def test_mid_p_is_the_exact_tail_minus_half_the_point(regressions: int, fixes: int) -> None:
    n = regressions + fixes
    one_sided = stats.binom.sf(regressions - 1, n, 0.5) - 0.5 * stats.binom.pmf(regressions, n, 0.5)
    assert mcnemar_mid_p(regressions, fixes) == pytest.approx(one_sided, abs=1e-12)
    smaller = min(regressions, fixes)
    two_sided = 2 * stats.binom.cdf(smaller, n, 0.5) - stats.binom.pmf(smaller, n, 0.5)
    assert mcnemar_mid_p_two_sided(regressions, fixes) == pytest.approx(
        1.0 if regressions == fixes else two_sided, abs=1e-12
    )


def test_mid_p_of_nothing_is_one() -> None:
    assert (mcnemar_mid_p(0, 0), mcnemar_mid_p_two_sided(0, 0)) == (1.0, 1.0)


def test_sign_flip_is_exact_for_few_differences() -> None:
    differences = [0.5, -0.25, 0.125, 0.75, 0.0, -0.5]
    nonzero = [d for d in differences if d]
    sums = [fsum(s * d for s, d in zip(signs, nonzero, strict=True)) for signs in product((1, -1), repeat=len(nonzero))]
    observed = fsum(nonzero)
    expected = sum(abs(s) >= abs(observed) for s in sums) / 32, sum(s <= observed for s in sums) / 32
    assert sign_flip_p(differences, 0) == expected


def test_sign_flip_sampled_agrees_with_scipy_within_monte_carlo_error() -> None:
    source = random.Random(2)
    differences = [source.gauss(0.15, 0.4) for _ in range(40)]
    peer = stats.permutation_test(
        (differences,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=1,
    )
    both, worse = sign_flip_p(differences, 0)
    assert both == pytest.approx(peer.pvalue, abs=4 * sqrt(peer.pvalue / 10_000))
    assert worse == pytest.approx(1 - peer.pvalue / 2, abs=0.02)
    assert sign_flip_p(differences[::-1], 0) == (both, worse)


def test_holm_equals_statsmodels() -> None:
    p_values = [0.04, 0.001, 0.03, 0.5, 0.012, 0.03]
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]), abs=1e-12)
    assert holm([]) == []


def test_items_needed_have_the_promised_power() -> None:
    # Discordance 20 %, Δ = 0.1: the normal approximation's power at the returned n is 80 %.
    n = items_to_detect(0.1, 0.2)
    for size, reached in ((n, True), (n - 2, False)):
        power = stats.norm.cdf((0.1 * sqrt(size) - stats.norm.ppf(0.975) * sqrt(0.2)) / sqrt(0.2 - 0.01))
        assert bool(power >= 0.8) == reached
    assert items_to_detect(0.0, 0.2) == 0


def test_items_to_exclude_a_margin() -> None:
    # (z.95 + z.80)² · 0.1 / 0.05² = 247.3
    assert items_to_exclude(0.0, 0.1, 0.05, 0.05) == 248
    assert items_to_exclude(-0.05, 0.1, 0.05, 0.05) == 0
    assert items_to_exclude(0.0, 0.0, 0.05, 0.05) == 52  # z² · 19 = 51.4: the silent bound
