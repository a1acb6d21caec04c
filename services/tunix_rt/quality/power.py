"""Power of the mid-p McNemar test, and the smallest difference that it shows.

Owns the exact enumeration; sample sizes by formula are in `paired`. Discordance is the share of items on which two
models differ; the difference is the share of fixes less that of regressions, so never larger than the discordance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from math import comb, exp, fsum, lgamma, log, sqrt

POWER = 0.80
# Beyond so many expected discordant items the normal approximation's power is right to 0.5 %
# (tests/bench/statistics/detectable.py).
EXACT_DISCORDANT = 100
# Power that is 80 % but for rounding is 80 %.
_SLACK = 1e-9


def mcnemar_power(n: int, discordance: float, difference: float, alpha: float = 0.05, *, sides: int = 2) -> float:
    """Probability that the mid-p McNemar test of ``n`` items shows a true ``difference`` at level ``alpha``.

    Exact but for 1e-12 of cut-off tails: the discordant items are Binomial(n, discordance), the fixes among them
    Binomial with (1 + difference/discordance)/2. One-sided, the test is that of the difference's own sign.
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
    """The fewest items of one kind, among ``discordant``, whose one-sided mid-p is at most ``level`` (< 0.5).

    One more than ``discordant`` when there is no such number.
    """
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

    Where not even a difference as large as the discordance is shown, the discordance is taken to be as large as the
    difference: every discordant item the same way.
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
    """The fewest items that show ``difference`` with 80 % power, by exact enumeration; at most ``enough``.

    Power rises with n but for steps of a fraction of a percent, so bisection finds one of the places where it crosses
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
    """Where the increasing ``f`` crosses 0 between ``low`` and ``high``, to 1e-10: the Illinois method."""
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
