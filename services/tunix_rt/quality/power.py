"""Power of the mid-p McNemar test and the smallest difference that it shows, by exact enumeration.

Discordance is the share of items on which two models differ. The difference is the share of fixes minus the share of
regressions, so it never exceeds the discordance. Sample sizes by formula are in `paired`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from math import comb, exp, fsum, lgamma, log, sqrt

POWER = 0.80
# Above this number of expected discordant items the error of the normal approximation's power is at most 0.5 %
# (tests/bench/statistics/detectable.py).
EXACT_DISCORDANT = 100
# Tolerance for rounding errors of the power.
_SLACK = 1e-9


def mcnemar_power(n: int, discordance: float, difference: float, alpha: float = 0.05, *, sides: int = 2) -> float:
    """Probability that the mid-p McNemar test of ``n`` items shows a true ``difference`` at level ``alpha``.

    Exact up to truncated tails of 1e-12. The discordant items are Binomial(n, discordance), the fixes among them
    Binomial with p = (1 + difference/discordance)/2. The one-sided test is in the direction of the difference.
    0 ≤ |difference| ≤ discordance ≤ 1.
    """
    if not 0 <= abs(difference) <= discordance <= 1:
        raise ValueError(f"difference {difference} and discordance {discordance} do not go together")
    if discordance == 0:
        return 0.0
    likelier = (1 + abs(difference) / discordance) / 2
    weights = dict(_binomial(n, discordance))
    first, last = min(weights), max(weights)
    power = fsum(weights[d] * p for d, p in _significant(likelier, first, last, alpha / sides) if d in weights)
    if sides == 2:
        power += fsum(weights[d] * p for d, p in _significant(1 - likelier, first, last, alpha / sides) if d in weights)
    return min(1.0, power)


@lru_cache(maxsize=65536)
def critical_count(discordant: int, level: float) -> int:
    """The smallest number of items of one kind, among ``discordant``, whose one-sided mid-p is at most ``level``
    (< 0.5); ``discordant`` + 1 when there is none."""
    above, found = 0, discordant + 1
    for k in range(discordant, -1, -1):
        at_least = above + comb(discordant, k)
        if 0.5 * (at_least / (1 << discordant) + above / (1 << discordant)) > level:
            break
        above, found = at_least, k
    return found


@lru_cache(maxsize=4096)
def smallest_shown(n: int, discordance: float, alpha: float, sides: int) -> float:
    """The smallest difference shown with 80 % power by ``n`` items, by exact enumeration; 1.0 if there is none.

    If not even a difference equal to the discordance is shown, the discordance is set to the difference: every
    discordant item goes the same way.
    """

    def power(difference: float) -> float:
        return mcnemar_power(n, max(discordance, difference), difference, alpha, sides=sides)

    low, high = (0.0, discordance) if discordance else (0.0, min(1.0, 4 / max(n, 1)))
    while power(high) < POWER:
        if high == 1.0:
            return 1.0
        low, high = high, min(1.0, 2 * high)
    return _root(lambda difference: power(difference) - POWER, low, high)


@lru_cache(maxsize=4096)
def items_shown(discordance: float, difference: float, alpha: float, sides: int, enough: int) -> int:
    """The smallest number of items that show ``difference`` with 80 % power, by exact enumeration; at most ``enough``.

    Power is not strictly monotonic in n: it drops by fractions of a percent. Bisection finds one of the crossings of
    80 %.
    """
    low, high = 0, enough
    while high - low > 1:
        middle = (low + high) // 2
        if mcnemar_power(middle, discordance, difference, alpha, sides=sides) >= POWER - _SLACK:
            high = middle
        else:
            low = middle
    return high


def _binomial(n: int, p: float) -> Iterator[tuple[int, float]]:
    """Counts and their probabilities under Binomial(n, p), 0 < p ≤ 1, without those of 1e-16 or less."""
    if p == 1:
        yield n, 1.0
        return
    reach = int(30 + 8 * sqrt(n * p * (1 - p)))
    for k in range(max(0, int(n * p) - reach), min(n, int(n * p) + reach) + 1):
        weight = exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log(1 - p))
        if weight > 1e-16:
            yield k, weight


def _significant(p: float, first: int, last: int, level: float) -> Iterator[tuple[int, float]]:
    """(d, P(X ≥ critical count of d)) for X ~ Binomial(d, p) and each d from ``first`` to ``last`` that has one.

    From d to d + 1 the critical count c stays or rises by one: tail and point probability follow by recurrence, with
    P(X_{d+1} ≥ c) = P(X_d ≥ c) + p·P(X_d = c − 1).
    """
    while first <= last and critical_count(first, level) > first:
        first += 1
    if first > last or p in (0.0, 1.0):
        yield from ((d, p) for d in range(first, last + 1))
        return
    c = critical_count(first, level)
    points = [
        exp(lgamma(first + 1) - lgamma(k + 1) - lgamma(first - k + 1) + k * log(p) + (first - k) * log(1 - p))
        for k in range(c, first + 1)
    ]
    at, tail = points[0], fsum(points)
    for d in range(first, last + 1):
        if critical_count(d, level) > c:
            tail -= at
            at *= (d - c) * p / ((c + 1) * (1 - p))
            c += 1
        yield d, max(0.0, tail)
        below = at * c * (1 - p) / ((d - c + 1) * p)
        tail += p * below
        at = p * below + (1 - p) * at


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """The root of the increasing ``f`` between ``low`` and ``high``, to 1e-10, by the Illinois method."""
    at_low, at_high = f(low), f(high)
    side = 0
    for _ in range(100):
        if high - low < 1e-10:
            break
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        value = f(middle)
        if abs(value) < 1e-13:
            return middle
        if value > 0:
            high, at_high = middle, value
            at_low, side = (at_low / 2 if side > 0 else at_low), 1
        else:
            low, at_low = middle, value
            at_high, side = (at_high / 2 if side < 0 else at_high), -1
    return high
