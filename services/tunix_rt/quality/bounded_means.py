"""Confidence bounds of the mean of values that cannot be below or above a known limit.

A value that was not seen, at the limit, always has some probability: values that are all alike give no certainty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import fsum, inf

# More different values are put into this many groups: the bound changes by less than 1e-6 of the range.
_GROUPS = 1024
_HALVINGS = 52
_ROUNDING = 1e-12

Counts = Sequence[tuple[float, int]]


def counts_of(values: Iterable[float]) -> list[tuple[float, int]]:
    """The different values and how often each occurs, sorted; at most 1,024 of them, means of neighbours."""
    counts = sorted(Counter(values).items())
    if len(counts) <= _GROUPS:
        return counts
    size = -(-len(counts) // _GROUPS)
    grouped = []
    for start in range(0, len(counts), size):
        part = counts[start : start + size]
        n = sum(count for _, count in part)
        grouped.append((fsum(value * count for value, count in part) / n, n))
    return grouped


def all_equal(values: Sequence[float]) -> bool:
    """Whether the values are the same up to rounding, and so say nothing of their spread."""
    low, high = min(values), max(values)
    return high - low <= _ROUNDING * max(abs(low), abs(high))


def lower_mean_bound(counts: Counts, lowest: float, critical: float) -> float:
    """The largest mean that a score test with this ``critical`` value (> 0) rejects in favour of a larger one.

    ``counts`` are values of at least ``lowest``. The variance under the hypothesis is that of the most likely
    distribution on the observed values and ``lowest`` that has the mean d (empirical likelihood, Owen 2001, §2.3): with
    probabilities 1/(n + b·(x − d)), b the Lagrange multiplier, the squared score statistic is b·(x̄ − d). For 0 and 1
    this is Wilson's bound, for −1, 0 and 1 Tango's. Wider than Student's t where unseen values matter: few values,
    or skewed ones.
    """
    n = sum(count for _, count in counts)
    mean = fsum(value * count for value, count in counts) / n
    if critical == inf:
        return lowest
    rejected, kept = lowest, mean
    for _ in range(_HALVINGS):
        middle = 0.5 * (rejected + kept)
        if middle in (rejected, kept):
            break
        if _rejects(counts, n, mean, lowest, critical * critical, middle):
            rejected = middle
        else:
            kept = middle
    return 0.5 * (rejected + kept)


def upper_mean_bound(counts: Counts, highest: float, critical: float) -> float:
    """The smallest mean that the test rejects in favour of a smaller one, for values of at most ``highest``."""
    return 0.0 - lower_mean_bound([(0.0 - value, count) for value, count in reversed(counts)], -highest, critical)


def _rejects(counts: Counts, n: int, mean: float, lowest: float, squared: float, at: float) -> bool:
    """Whether the multiplier of the mean ``at`` exceeds squared/(x̄ − at), at which the probabilities of the observed
    values add up to less than 1."""
    multiplier = squared / (mean - at)
    if multiplier * (at - lowest) >= n:
        return False
    return fsum(count / (n + multiplier * (value - at)) for value, count in counts) < 1
