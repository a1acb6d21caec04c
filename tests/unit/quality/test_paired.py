"""Paired statistics against SciPy, statsmodels and restricted likelihoods maximised numerically."""

from __future__ import annotations

import random
import time
from itertools import product
from math import comb, fsum, sqrt

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests

from tunix_rt.quality.distributions import binomial_tail_half
from tunix_rt.quality.paired import (
    holm,
    items_to_detect,
    items_to_exclude,
    mcnemar_mid_p,
    mcnemar_mid_p_two_sided,
    tango_interval,
)
from tunix_rt.quality.statistics_1 import cluster_bootstrap_means, sign_flip_p


def _peer_score(regressions: int, fixes: int, n: int, difference: float) -> float:
    """Tango's statistic with the restricted MLE as the root of the likelihood's slope instead of its closed form."""
    low, high = max(0.0, -difference), (1 - difference) / 2
    same = n - regressions - fixes

    def slope(worse: float) -> float:
        return (
            (regressions / worse if regressions else 0.0)
            + (fixes / (worse + difference) if fixes else 0.0)
            - (2 * same / (1 - 2 * worse - difference) if same else 0.0)
        )

    inset = 1e-9 * (high - low)
    if slope(low + inset) <= 0:
        worse = low
    elif slope(high - inset) >= 0:
        worse = high
    else:
        worse = optimize.brentq(slope, low + inset, high - inset, xtol=1e-16, rtol=1e-15)
    variance = (2 * worse + difference - difference**2) / n
    return ((fixes - regressions) / n - difference) / sqrt(variance)


@pytest.mark.parametrize(
    ("regressions", "fixes", "n"),
    [(2, 12, 50), (0, 5, 30), (1, 0, 100), (8, 2, 100), (10, 10, 40), (0, 3, 4), (30, 45, 400), (59, 12, 161)],
)
@pytest.mark.parametrize("confidence", [0.90, 0.95])
def test_tango_bounds_are_the_roots_of_the_score_equation_of_an_independent_mle(
    regressions: int, fixes: int, n: int, confidence: float
) -> None:
    z = stats.norm.ppf(0.5 + confidence / 2)
    observed = (fixes - regressions) / n
    low = optimize.brentq(lambda d: _peer_score(regressions, fixes, n, d) - z, -0.99, observed - 1e-9, xtol=1e-14)
    high = optimize.brentq(lambda d: _peer_score(regressions, fixes, n, d) + z, observed + 1e-9, 0.99, xtol=1e-14)
    assert tango_interval(regressions, fixes, n, confidence) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(
    ("regressions", "fixes", "n", "low", "high"),
    [
        # R. G. Newcombe's worked example of Tango's interval: (a, b, c, d) = (36, 12, 2, 0).
        (2, 12, 50, 0.0611, 0.3447),
        # Complete response before and after consolidation therapy (Cavo et al. 2012): Fagerland, Lydersen & Laake,
        # Statistical Analysis of Contingency Tables (2017), chapter 8, and the R package contingencytables.
        (16, 6, 161, -0.1240, -0.0054),
    ],
)
def test_tango_equals_published_intervals(regressions: int, fixes: int, n: int, low: float, high: float) -> None:
    assert tango_interval(regressions, fixes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("regressions", "fixes", "published"),
    [
        # Fagerland et al. 2013, doi 10.1186/1471-2288-13-91: airway hyper-responsiveness (Bentur et al. 2009) and
        # complete response (Cavo et al. 2012; six digits as printed by the R package contingencytables).
        (7, 1, 0.0391),
        (16, 6, 0.034690),
    ],
)
def test_mid_p_equals_published_values(regressions: int, fixes: int, published: float) -> None:
    found = mcnemar_mid_p_two_sided(regressions, fixes)
    assert found == pytest.approx(published, abs=5e-5 if published == 0.0391 else 5e-7)
    assert mcnemar_mid_p_two_sided(fixes, regressions) == found


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
    imbalance = abs(2 * np.arange(n + 1) - n)
    chance = stats.binom.pmf(np.arange(n + 1), n, 0.5)
    seen = abs(regressions - fixes)
    two_sided = chance[imbalance > seen].sum() + 0.5 * chance[imbalance == seen].sum()
    assert mcnemar_mid_p_two_sided(regressions, fixes) == pytest.approx(two_sided, abs=1e-12)


def test_mid_p_of_many_discordant_items_is_exact_and_quick() -> None:
    started = time.thread_time()
    found = mcnemar_mid_p(24_200, 23_800)
    assert time.thread_time() - started < 1
    expected = (stats.binom.sf(24_199, 48_000, 0.5) + stats.binom.sf(24_200, 48_000, 0.5)) / 2
    assert found == pytest.approx(expected, rel=1e-9)
    for k, n in ((510, 1001), (540, 1001), (1000, 1001)):
        hits = sum(comb(n, i) for i in range(k, n + 1))
        assert binomial_tail_half(k, n) == hits / (1 << n)


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


@pytest.mark.parametrize("n", [15, 16, 17, 40])
def test_sampled_sign_flips_are_those_of_the_seeds_bits(n: int) -> None:
    """Bit i of each drawn number is the sign of the i-th smallest difference; n is around whole bytes."""
    source = random.Random(n)
    differences = sorted(source.uniform(-0.5, 1.0) for _ in range(n))
    observed = fsum(differences)
    bits = random.Random(7)
    sums = []
    for _ in range(10_000):
        signs = bits.getrandbits(n)
        sums.append(fsum(d if signs >> place & 1 else -d for place, d in enumerate(differences)))
    both, worse = sum(abs(each) >= abs(observed) for each in sums), sum(each <= observed for each in sums)
    assert sign_flip_p(differences, 7) == ((both + 1) / 10_001, (worse + 1) / 10_001)


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1, 1], [3, 3, 3, 3, 3], [1, 4, 2, 2, 9]])
def test_the_bootstrap_draws_whole_clusters(sizes: list[int]) -> None:
    clusters = sorted(zip([0.5, -1.25, 0.0, 0.75, 0.25], sizes, strict=True))
    source = random.Random(3)
    means = []
    for _ in range(10_000):
        drawn = [clusters[int(source.random() * 5)] for _ in clusters]
        means.append(sum(total for total, _ in drawn) / sum(size for _, size in drawn))
    assert cluster_bootstrap_means([0.5, -1.25, 0.0, 0.75, 0.25], sizes, 3) == sorted(means)


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
