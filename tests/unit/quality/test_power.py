"""Power of the paired test by SciPy's binomials, and that stated differences and sizes have it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from tunix_rt.quality.paired import (
    detectable_difference,
    detectable_mean,
    discordant_items_to_detect,
    items_to_detect,
    mcnemar_mid_p,
    mean_items_to_detect,
)
from tunix_rt.quality.power import critical_count, mcnemar_power


def _peer_power(n: int, discordance: float, difference: float, sides: int) -> float:
    """Probability that the mid-p test at 5 % is significant, over every (discordant, fixes)."""
    power = 0.0
    for discordant in range(1, n + 1):
        fixes = np.arange(discordant + 1)
        mid_p = stats.binom.sf(fixes - 1, discordant, 0.5) - 0.5 * stats.binom.pmf(fixes, discordant, 0.5)
        if sides == 2:
            mid_p = np.where(2 * fixes == discordant, 1, 2 * np.where(2 * fixes > discordant, mid_p, mid_p[::-1]))
        chance = stats.binom.pmf(fixes, discordant, (1 + difference / discordance) / 2)
        power += stats.binom.pmf(discordant, n, discordance) * chance[mid_p <= 0.05].sum()
    return power


@pytest.mark.parametrize(
    ("n", "discordance", "difference"),
    [
        (30, 0.3, 0.1),
        (100, 0.2, 0.1),
        (100, 0.1, 0.1),
        (200, 0.3, 0.05),
        (400, 0.05, 0.0),
        (7, 1.0, 0.5),
        (4, 1.0, 1.0),
    ],
)
@pytest.mark.parametrize("sides", [1, 2])
def test_power_equals_scipys_enumeration(n: int, discordance: float, difference: float, sides: int) -> None:
    expected = _peer_power(n, discordance, difference, sides)
    assert mcnemar_power(n, discordance, difference, sides=sides) == pytest.approx(expected, abs=1e-9)
    assert mcnemar_power(n, discordance, -difference, sides=sides) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("discordant", [0, 1, 4, 5, 6, 17, 60])
def test_critical_count_is_where_the_mid_p_becomes_significant(discordant: int) -> None:
    critical = critical_count(discordant, 0.025)
    assert critical > discordant or mcnemar_mid_p(critical, discordant - critical) <= 0.025
    assert mcnemar_mid_p(critical - 1, discordant - critical + 1) > 0.025


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("n", [10, 25, 100, 400])
@pytest.mark.parametrize("discordance", [0.0, 0.02, 0.1, 0.3])
def test_detectable_difference_has_the_stated_power(n: int, discordance: float, sides: int) -> None:
    difference = detectable_difference(n, discordance, sides=sides)
    power = mcnemar_power(n, max(discordance, difference), difference, sides=sides)
    assert power == pytest.approx(0.80, abs=0.003 if n * discordance > 100 else 1e-9)
    assert difference <= discordance or detectable_difference(n, difference, sides=sides) == pytest.approx(
        difference, abs=1e-9
    )


def test_smaller_differences_show_with_more_items_or_less_discordance() -> None:
    by_size = [detectable_difference(n, 0.2) for n in (25, 50, 100, 200, 400, 800, 10_000)]
    assert by_size == sorted(by_size, reverse=True)
    by_discordance = [detectable_difference(100, share) for share in (0.02, 0.1, 0.2, 0.4, 0.8)]
    assert by_discordance == sorted(by_discordance)


def test_four_items_show_nothing() -> None:
    # The least two-sided mid-p of four items is 2 · ½ · 2⁻⁴ = 0.0625; of five it is 0.03125.
    assert [detectable_difference(n, 0.5) for n in (0, 1, 4)] == [1.0, 1.0, 1.0]
    assert detectable_difference(5, 0.5) < 1.0


@pytest.mark.parametrize("discordance", [-0.1, 1.5, float("nan")])
def test_discordance_that_is_no_share_is_refused(discordance: float) -> None:
    with pytest.raises(ValueError, match="discordance"):
        detectable_difference(100, discordance)


@pytest.mark.parametrize(("n", "discordance"), [(12, 0.5), (50, 0.2), (100, 0.1), (100, 0.02), (300, 0.3)])
def test_items_needed_are_the_inverse_of_the_detectable_difference(n: int, discordance: float) -> None:
    difference = detectable_difference(n, discordance)
    assert discordant_items_to_detect(difference, max(discordance, difference)) == n
    assert discordant_items_to_detect(-difference, max(discordance, difference)) == n


def test_items_needed_have_the_power_that_the_formula_overshoots() -> None:
    # Every discordant item a fix, 5 % of them: the formula asks for 155 items, whose power is 89 %.
    assert items_to_detect(0.05, 0.05) == 155
    exact = discordant_items_to_detect(0.05, 0.05)
    assert exact < 140
    assert mcnemar_power(exact, 0.05, 0.05) >= 0.80 > mcnemar_power(exact - 1, 0.05, 0.05)
    assert discordant_items_to_detect(0.0, 0.3) == 0
    assert discordant_items_to_detect(0.02, 0.3) == items_to_detect(0.02, 0.3)


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize(("n", "variance"), [(10, 0.04), (25, 0.2), (100, 25.0)])
def test_detectable_mean_has_the_power_of_statsmodels_t_test(n: int, variance: float, sides: int) -> None:
    effect = detectable_mean(n, variance, sides=sides) / variance**0.5
    alternative = "two-sided" if sides == 2 else "larger"
    power = TTestPower().power(effect_size=effect, nobs=n, alpha=0.05, alternative=alternative)
    assert power == pytest.approx(0.80, abs=0.01)


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize(("n", "variance"), [(100, 0.2), (1000, 0.01), (50, 25.0)])
def test_items_for_a_mean_are_the_inverse_of_the_detectable_mean(n: int, variance: float, sides: int) -> None:
    difference = detectable_mean(n, variance, sides=sides)
    assert mean_items_to_detect(difference * (1 + 1e-9), variance, sides=sides) == n
    assert mean_items_to_detect(difference * (1 - 1e-9), variance, sides=sides) == n + 1


def test_one_item_shows_no_mean() -> None:
    assert detectable_mean(1, 0.1) == float("inf")
    assert mean_items_to_detect(0.0, 0.1) == 0


def test_sign_flips_need_so_many_items_however_large_the_difference() -> None:
    # 2/2⁶ ≤ 5 % < 2/2⁵, and 1/2⁵ ≤ 5 % < 1/2⁴.
    assert [mean_items_to_detect(9.0, 0.0, sides=sides) for sides in (2, 1)] == [6, 5]
