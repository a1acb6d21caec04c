"""The sign-flip test: if neither model is better, every difference is as likely with the other sign.

Exact for few differences and for counts, else by a saddlepoint approximation; nothing is drawn at random.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import cosh, exp, fsum, gcd, log, log1p, pi, sqrt, tanh
from statistics import NormalDist

from tunix_rt.quality.bounded_means import counts_of

_ENUMERATED = 24
# Additions of an exact distribution of counts: a quarter of a second.
_ADDITIONS = 3_000_000
_NORMAL = NormalDist()


@dataclass(frozen=True)
class _Tail:
    """P(T > x) and P(T = x) of the sum T under random signs, for x ≥ 0."""

    beyond: float
    at: float


def sign_flip_p(totals: Sequence[float], ties: float = 1.0) -> tuple[float, float]:
    """(two-sided, one-sided that the mean is below 0) p-values of the sign-flip test.

    ``totals`` are differences B − A, summed per cluster; their order does not matter. A sum equal to the observed one
    counts with weight ``ties``: 1 for the exact test, whose error is at most α, 1/2 for the mid-p value.
    """
    nonzero = sorted(d for d in totals if d)
    if not nonzero:
        return 1.0, 1.0
    observed = fsum(nonzero)
    tail = _tail([abs(d) for d in nonzero], abs(observed))
    counted = tail.beyond + ties * tail.at
    if observed == 0:
        # The balanced outcome is one outcome, not a mirrored pair.
        return 1 - tail.at + ties * tail.at, (1 - tail.at) / 2 + ties * tail.at
    worse = counted if observed < 0 else 1 - tail.beyond - (1 - ties) * tail.at
    return min(1.0, 2 * counted), min(1.0, worse)


def _tail(sizes: Sequence[float], x: float) -> _Tail:
    whole = all(size.is_integer() for size in sizes)
    if whole and len(sizes) * sum(sizes) <= _ADDITIONS:
        return _of_counts([int(size) for size in sizes], int(x))
    if len(sizes) <= _ENUMERATED:
        return _enumerated(sizes, x)
    return _saddlepoint(sizes, x, 2 * gcd(*map(int, sizes)) if whole else 0)


def _of_counts(sizes: Sequence[int], x: int) -> _Tail:
    """By convolution: the sum is −Σ + 2i with probability p[i]."""
    p = [1.0]
    for size in sorted(sizes):
        zeros = [0.0] * size
        p = [0.5 * (a + b) for a, b in zip(p + zeros, zeros + p, strict=True)]
    at = (sum(sizes) + x) // 2
    return _Tail(fsum(p[at + 1 :]), p[at])


def _enumerated(sizes: Sequence[float], x: float) -> _Tail:
    """By all signs: the sums of two halves are sorted and searched. Sums that differ by rounding are ties."""
    half = len(sizes) // 2
    left, right = _sums(sizes[:half]), sorted(_sums(sizes[half:]))
    slack = 1e-12 * fsum(sizes)
    beyond = sum(len(right) - bisect_right(right, x - each + slack) for each in left)
    reached = sum(len(right) - bisect_left(right, x - each - slack) for each in left)
    total = len(left) * len(right)
    return _Tail(beyond / total, (reached - beyond) / total)


def _sums(sizes: Sequence[float]) -> list[float]:
    sums = [0.0]
    for size in sizes:
        sums = [s - size for s in sums] + [s + size for s in sums]
    return sums


def _saddlepoint(sizes: Sequence[float], x: float, lattice: int) -> _Tail:
    """Lugannani and Rice's formula (Robinson 1982, doi 10.1111/j.2517-6161.1982.tb01191.x, for this test); it gives the
    mid-p value where sums repeat, with distances of ``lattice`` (0: they do not)."""
    largest = max(sizes)
    counts = counts_of(size / largest for size in sizes)
    x /= largest
    total = fsum(size * count for size, count in counts)
    if x >= total * (1 - 1e-9):
        return _Tail(0.0, 0.5 ** len(sizes))
    t = _tilt(counts, x)
    curvature = fsum(count * (size / cosh(t * size)) ** 2 for size, count in counts)
    at = 0.0
    exponent = fsum(count * _log_cosh(t * size) for size, count in counts) - t * x
    if lattice:
        at = lattice / largest * exp(exponent) / sqrt(2 * pi * curvature)
    w, u = sqrt(max(0.0, -2 * exponent)), t * sqrt(curvature)
    mid = 0.5
    if w > 1e-4:
        mid = _NORMAL.cdf(-w) + _NORMAL.pdf(w) * (1 / u - 1 / w)
    return _Tail(max(0.0, mid - at / 2), at)


def _tilt(counts: Sequence[tuple[float, int]], x: float) -> float:
    """The t with Σ s·tanh(t·s) = x. Newton's steps come from below: the sum is concave in t."""
    t = x / fsum(count * size * size for size, count in counts)
    for _ in range(200):
        slopes = [tanh(t * size) for size, _ in counts]
        gap = x - fsum(count * size * slope for (size, count), slope in zip(counts, slopes, strict=True))
        slope = fsum(count * size * size * (1 - s * s) for (size, count), s in zip(counts, slopes, strict=True))
        if gap <= 1e-12 * x or slope <= 0:
            break
        t += gap / slope
    return t


def _log_cosh(u: float) -> float:
    return abs(u) + log1p(exp(-2 * abs(u))) - log(2)
