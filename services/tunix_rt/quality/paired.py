"""Statistics of paired differences: intervals, tests and sample sizes, each with its source."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, comb, inf, log2, sqrt

from tunix_rt.quality.distributions import binomial_tail_half, normal_quantile
from tunix_rt.quality.power import EXACT_DISCORDANT, POWER, items_shown, smallest_shown


def tango_interval(regressions: int, fixes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval for the difference of two paired proportions, (fixes − regressions)/n.

    Inverts the score test whose variance is estimated under the hypothesis (Tango 1998, doi
    10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B). One-sided bounds at α: ``confidence`` = 1 − 2α.
    n > 0.
    """
    z = normal_quantile(0.5 + confidence / 2)
    return tango_bound(regressions, fixes, n, z, -1), tango_bound(regressions, fixes, n, z, 1)


def tango_bound(regressions: int, fixes: int, n: int, critical: float, side: int) -> float:
    """One bound of `tango_interval`, the lower for ``side`` −1, the upper for 1, for a ``critical`` value of the score
    statistic."""
    observed = (fixes - regressions) / n
    if observed == side or critical == inf:
        return float(side)
    inside, outside = observed, float(side)
    for _ in range(200):
        middle = 0.5 * (inside + outside)
        if middle in (inside, outside):
            break
        if abs(_tango_score(regressions, fixes, n, middle)) < critical:
            inside = middle
        else:
            outside = middle
    return 0.5 * (inside + outside)


def _tango_score(regressions: int, fixes: int, n: int, difference: float) -> float:
    """The score statistic of "the true difference is ``difference``" (Tango 1998, eq. 8)."""
    a = 2 * n
    b = -fixes - regressions + (2 * n - fixes + regressions) * difference
    c = -regressions * difference * (1 - difference)
    q = (sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = n * (2 * q + difference * (1 - difference))
    gap = fixes - regressions - n * difference
    if variance <= 0:
        return 0.0 if gap == 0 else float("inf") if gap > 0 else float("-inf")
    return gap / sqrt(variance)


def mcnemar_mid_p(regressions: int, fixes: int) -> float:
    """One-sided mid-p value that B is worse than A on paired binary items.

    ``regressions`` and ``fixes`` count the discordant items. Returns 1.0 when there are none. The exact test is too
    conservative at n≈100 (Fagerland et al. 2013, doi 10.1186/1471-2288-13-91).
    """
    n = regressions + fixes
    if n == 0:
        return 1.0
    return 0.5 * (binomial_tail_half(regressions, n) + binomial_tail_half(regressions + 1, n))


def mcnemar_mid_p_two_sided(regressions: int, fixes: int) -> float:
    """Two-sided mid-p value that A and B differ; 1.0 when there is no discordant item.

    The probability of a larger imbalance plus half that of one as large (Fagerland et al. 2013).
    """
    n = regressions + fixes
    if regressions == fixes:
        # The balanced outcome is a single outcome, not a mirrored pair.
        return 1.0 - 0.5 * comb(n, regressions) / (1 << n) if n else 1.0
    return min(1.0, 2 * mcnemar_mid_p(max(regressions, fixes), min(regressions, fixes)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values, in the given order (Holm 1979)."""
    m = len(p_values)
    adjusted = [0.0] * m
    running = 0.0
    for rank, position in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (m - rank) * p_values[position]))
        adjusted[position] = running
    return adjusted


def items_to_detect(difference: float, discordance: float, alpha: float = 0.05, *, sides: int = 2) -> int:
    """Binary items needed to see ``difference`` with 80 % power at level ``alpha``; 0 when it is 0.

    ``discordance`` is the share of items that differ (Miettinen 1968, Connor 1987: the paired-proportions formula).
    """
    if difference == 0:
        return 0
    spread = sqrt(max(0.0, discordance - difference * difference))
    needed = normal_quantile(1 - alpha / sides) * sqrt(discordance) + normal_quantile(POWER) * spread
    return ceil((needed / difference) ** 2)


def discordant_items_to_detect(difference: float, discordance: float) -> int:
    """Binary items that the two-sided mid-p McNemar test at 5 % needs to see ``difference`` with 80 % power; 0 when
    it is 0.

    By exact enumeration when few discordant items are expected: there the formula of `items_to_detect` is up to a fifth
    too high. |difference| ≤ ``discordance``.
    """
    needed = items_to_detect(difference, discordance)
    if needed * discordance > EXACT_DISCORDANT or not needed:
        return needed
    return items_shown(discordance, abs(difference), 0.05, 2, needed)


def detectable_difference(n: int, discordance: float, alpha: float = 0.05, *, sides: int = 2) -> float:
    """The smallest |difference| of two scores that the mid-p McNemar test of ``n`` binary items shows with 80 % power.

    ``discordance`` is the share of items on which the two differ. If it is too small to show anything, the difference
    itself is used as the discordance; 1.0 when not even a difference on every item would be shown (n < 5 at 5 %,
    two-sided). By exact enumeration up to 100 expected discordant items, else by the formula of `items_to_detect`. The
    inverse of `discordant_items_to_detect`. Raises ValueError for a discordance outside [0, 1].
    """
    if not 0 <= discordance <= 1:
        raise ValueError(f"discordance {discordance} is not in [0, 1]")
    if n * discordance > EXACT_DISCORDANT:
        return _detectable_by_formula(n, discordance, alpha, sides)
    return smallest_shown(n, discordance, alpha, sides)


def _detectable_by_formula(n: int, discordance: float, alpha: float, sides: int) -> float:
    z, power = normal_quantile(1 - alpha / sides), normal_quantile(POWER)
    # (Δ√n − z√m)² = power²·(m − Δ²), its larger root.
    a, b, c = n + power * power, z * sqrt(n * discordance), (z * z - power * power) * discordance
    return (b + sqrt(max(0.0, b * b - a * c))) / a


def detectable_mean(n: int, variance: float, alpha: float = 0.05, *, sides: int = 2) -> float:
    """The smallest |mean| of ``n`` graded differences with this ``variance`` that is shown with 80 % power.

    `mean_items_to_detect` solved for the difference; infinite for fewer than 3 items, two-sided at 5 %.
    """
    z, power = normal_quantile(1 - alpha / sides), normal_quantile(POWER)
    room = n - z * z / 2
    return (z + power) * sqrt(variance / room) if room > 0 else inf


def mean_items_to_detect(difference: float, variance: float, alpha: float = 0.05, *, sides: int = 2) -> int:
    """Items needed to see a mean ``difference`` of graded values with 80 % power at level ``alpha``; 0 when it is 0.

    ``variance`` is the variance of one item's difference, with the design effect for clustered items. Normal formula
    for the paired t test plus z²/2 items for the unknown variance (Guenther 1981, The American Statistician 35,
    243–244). The sign-flip test has the power of the t test, but cannot be significant with fewer than log₂(sides/α)
    items.
    """
    if difference == 0:
        return 0
    z, power = normal_quantile(1 - alpha / sides), normal_quantile(POWER)
    return ceil(max((z + power) ** 2 * variance / (difference * difference) + z * z / 2, log2(sides / alpha)))


def items_to_exclude(
    difference: float, second_moment: float, margin: float, alpha: float, *, scale: float = 1.0
) -> int:
    """Items needed to show with 80 % power that a true ``difference`` is above −``margin``; 0 when it is not.

    ``scale`` is the largest possible difference of one item.
    """
    room = difference + margin
    if room <= 0:
        return 0
    variance = max(0.0, second_moment - difference * difference)
    z, power = normal_quantile(1 - alpha), normal_quantile(POWER)
    # Without any difference the bound of the score interval still needs scale·z²/(n + z²) < margin.
    silent = z * z * (scale - margin) / margin if margin > 0 else 0.0
    return ceil(max((z + power) ** 2 * variance / room**2, silent))
