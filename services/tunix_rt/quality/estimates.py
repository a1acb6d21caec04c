"""A mean with its 95 % interval, in every version of the statistics, and the cluster-robust variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

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
