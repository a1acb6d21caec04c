"""Quantiles and tails of the normal, Student's t and binomial distributions, without SciPy.

Every function agrees with SciPy to 1e-9 (tests/unit/quality).
"""

from __future__ import annotations

from functools import lru_cache
from math import comb, exp, isfinite, lgamma, log, sqrt
from statistics import NormalDist

_NORMAL = NormalDist()
_EXACT_TRIALS = 1000


def normal_quantile(p: float) -> float:
    """The z with P(Z ≤ z) = p, for p in (0, 1)."""
    return _NORMAL.inv_cdf(p)


def t_cdf(t: float, df: float) -> float:
    """P(T ≤ t) for Student's t with ``df`` > 0 degrees of freedom."""
    if df <= 0:
        raise ValueError("degrees of freedom must be positive")
    tail = 0.5 * regularised_incomplete_beta(df / 2, 0.5, df / (df + t * t))
    return 1.0 - tail if t > 0 else tail


@lru_cache(maxsize=1024)
def t_quantile(p: float, df: float) -> float:
    """The t with P(T ≤ t) = p, for p in (0, 1); by bisection of `t_cdf` to the last bit."""
    if not 0 < p < 1:
        raise ValueError("p must be in (0, 1)")
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p and isfinite(high):
        low, high = high, high * 2
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if t_cdf(middle, df) < p:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def regularised_incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) by Lentz's continued fraction (Press et al., Numerical Recipes §6.4; DLMF 8.17.22)."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1.0 - x))
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _beta_fraction(a, b, x) / a
    return 1.0 - front * _beta_fraction(b, a, 1.0 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 10_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + numerator * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + numerator / c
            c = c if abs(c) > tiny else tiny
            value *= d * c
        if abs(d * c - 1.0) < 1e-16:
            return value
    return value


def binomial_tail_half(k: int, n: int) -> float:
    """P(X ≥ k) for X ~ Binomial(n, 1/2), exactly rounded."""
    if k <= 0:
        return 1.0
    if k > n:
        return 0.0
    if 2 * k <= n:
        # The other tail is the shorter sum.
        hits, bits = _upper_tail(n - k + 1, n)
        return ((1 << bits) - hits) / (1 << bits)
    hits, bits = _upper_tail(k, n)
    return hits / (1 << bits)


def _upper_tail(k: int, n: int) -> tuple[int, int]:
    """(hits, bits) with P(X ≥ k) = hits/2^bits, for k > n/2.

    Each term follows from the one before. Exact to 1,000 trials; beyond, the terms are relative to the first, to 256
    bits, and end where they no longer matter: after about √n of them.
    """
    exact = n <= _EXACT_TRIALS
    first, precision = (comb(n, k), 0) if exact else (1 << 256, 256)
    total = term = first
    at = k
    while term and at < n:
        term = term * (n - at) // (at + 1)
        total += term
        at += 1
    return total if exact else comb(n, k) * total, n + precision


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927, doi 10.1080/01621459.1927.10502953); n > 0."""
    low, high = score_interval(successes / n, n, normal_quantile(0.5 + confidence / 2))
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def score_interval(p: float, n: float, critical: float) -> tuple[float, float]:
    """The interval of proportions that a score test with ``critical`` value does not reject, given ``p`` in ``n`` > 0
    trials."""
    squared = critical * critical
    centre = p + squared / (2 * n)
    half = critical * sqrt(p * (1 - p) / n + squared / (4 * n * n))
    scale = 1 + squared / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
