"""The mean of values and its 95 % interval.

Wilson's interval for binary values, Student's t for graded ones, both with the cluster-robust variance for clustered
items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, sqrt

from tunix_rt.quality.distributions import score_interval, t_quantile, wilson_interval

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """``stddev`` has ddof 1 and is None for fewer than 2 values. The interval is None when it cannot be estimated."""

    n: int
    mean: float | None
    stddev: float | None
    low: float | None
    high: float | None
    method: str


def estimate_mean(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Mean, standard deviation and 95 % interval of ``values``; ``clusters[i]`` is "" for an item without a cluster.

    If all values lie in [0, 1], so does the interval. The result does not depend on the order of the items, to the last
    bit: every sum is exactly rounded.
    """
    n = len(values)
    if n == 0:
        return Estimate(0, None, None, None, None, "")
    mean = fsum(values) / n
    stddev = sqrt(fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else None
    if any(clusters):
        low, high, method = _clustered(values, clusters, mean)
    elif all(v in (0.0, 1.0) for v in values):
        (low, high), method = wilson_interval(fsum(values), n, CONFIDENCE), "wilson"
    elif stddev is not None:
        low, high = _around(mean, stddev / sqrt(n), n - 1)
        method = "student_t"
    else:
        low, high, method = None, None, "student_t"
    if low is not None and high is not None and all(0 <= v <= 1 for v in values):
        low, high = max(0.0, low), min(1.0, high)
    return Estimate(n, mean, stddev, low, high, method)


def clustered_variance(values: Sequence[float], clusters: Sequence[str], mean: float) -> tuple[float, int]:
    """Cluster-robust variance of the mean, and the number of clusters.

    G/(G−1) · Σ_g (Σ_{i∈g} (x_i − x̄))² / n² (Liang & Zeger 1986, doi 10.1093/biomet/73.1.13). The small-sample factor
    is the usual G/(G−1) · (n−1)/(n−k) of cluster-robust regression on k = 1 constant, as in statsmodels and Stata; the
    interval uses t with G − 1 degrees of freedom. An item without a cluster is its own cluster. 0.0 for a single
    cluster.
    """
    sums: dict[tuple[str, int], list[float]] = {}
    for position, (value, cluster) in enumerate(zip(values, clusters, strict=True)):
        sums.setdefault((cluster, -1) if cluster else ("", position), []).append(value - mean)
    groups = len(sums)
    if groups < 2:
        return 0.0, groups
    return groups / (groups - 1) * fsum(fsum(group) ** 2 for group in sums.values()) / len(values) ** 2, groups


def _clustered(values: Sequence[float], clusters: Sequence[str], mean: float) -> tuple[float | None, float | None, str]:
    """Graded values: t. Binary values: Wilson's interval for the number of independent items with the same variance.

    The t interval of a proportion near 0 or 1 is too short on the far side: at 20 clusters of 5 it covered 93 % on
    average and 84 % at worst (tests/bench/statistics). The effective number of items, p(1 − p) over the cluster-robust
    variance and at most n, and t's critical value in place of the normal one are those of Korn & Graubard 1998 (Survey
    Methodology 24, 193–201) for Wilson's interval, as compared by Dean & Pagano 2015 (doi 10.1093/jssam/smv024).
    """
    n = len(values)
    variance, groups = clustered_variance(values, clusters, mean)
    binary = all(v in (0.0, 1.0) for v in values)
    if binary and mean in (0.0, 1.0):
        # No variance to estimate: each cluster counts as one item.
        low, high = wilson_interval(mean * groups, groups, CONFIDENCE)
        return low, high, "wilson"
    method = "cluster_robust_wilson" if binary else "cluster_robust_t"
    if groups < 2:
        return None, None, method
    if not binary:
        return *_around(mean, sqrt(variance), groups - 1), method
    effective = min(n, mean * (1 - mean) / variance) if variance else n
    return *score_interval(mean, effective, t_quantile(0.5 + CONFIDENCE / 2, groups - 1)), method


def _around(mean: float, error: float, df: int) -> tuple[float, float]:
    half = t_quantile(0.5 + CONFIDENCE / 2, df) * error
    return mean - half, mean + half
