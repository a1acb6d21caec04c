"""Estimators for several samples per item (pass@k, maj@k), with intervals over items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

from tunix_rt.quality.methods import CURRENT, Method

PASS_AT = "pass@k"
MAJORITY_AT = "maj@k"


@dataclass(frozen=True)
class RepeatEstimate:
    """Mean over the ``n_items`` items that have ``k`` scored samples; fields as in evaluations.proto."""

    statistic: str
    k: int
    n_items: int
    value: float
    ci_low: float | None
    ci_high: float | None
    ci_method: str


@dataclass(frozen=True)
class Samples:
    """The scored samples of one item as (answer key, value in [0, 1])."""

    votes: tuple[tuple[str, float], ...]
    cluster_id: str = ""


def repeat_estimates(
    items: Sequence[Samples], samples_per_item: int, method: Method = CURRENT
) -> tuple[RepeatEstimate, ...]:
    """pass@k and then maj@k, for k = 1, 2, 4, 8 … and ``samples_per_item`` itself; empty with one sample per item.

    Intervals are those of means: items, not samples, count as independent, and clusters are respected. A k
    for which no item has enough samples is left out. maj@k is left out when answers were not recorded: no sample has a
    key although some are right.
    """
    if samples_per_item < 2:
        return ()
    votes = [vote for item in items for vote in item.votes]
    unrecorded = any(value > 0 for _, value in votes) and not any(key for key, _ in votes)
    found = []
    for statistic in (PASS_AT,) if unrecorded else (PASS_AT, MAJORITY_AT):
        for k in _sizes(samples_per_item):
            enough = [item for item in items if len(item.votes) >= k]
            if enough:
                found.append(_estimate(statistic, k, enough, method))
    return tuple(found)


def best_value(values: Sequence[float], k: int) -> float:
    """Expected best of ``k`` samples drawn without replacement from ``values``, exactly rounded; 1 ≤ k ≤ n.

    For values 0 and 1 the unbiased pass@k, 1 − C(n − c, k)/C(n, k) (Chen et al. 2021, arXiv 2107.03374, eq. 1);
    graded values generalise "any is right" to the largest of them.
    """
    n = len(values)
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}; there are {n} samples")
    ordered = sorted(values)
    # In C(i, k) draws the best is among the i smallest.
    total = sum(
        (Fraction(value) * (comb(i + 1, k) - comb(i, k)) for i, value in enumerate(ordered) if value), Fraction(0)
    )
    return float(total / comb(n, k))


def _sizes(samples_per_item: int) -> list[int]:
    powers = [1 << i for i in range(samples_per_item.bit_length())]
    return sorted({*powers, samples_per_item})


def _estimate(statistic: str, k: int, items: Sequence[Samples], method: Method) -> RepeatEstimate:
    if statistic == PASS_AT:
        values = [best_value([value for _, value in item.votes], k) for item in items]
    else:
        values = [method.majority_value(item.votes, k) for item in items]
    found = method.estimate_mean(values, [item.cluster_id for item in items])
    return RepeatEstimate(statistic, k, found.n, found.mean or 0.0, found.low, found.high, found.method)
