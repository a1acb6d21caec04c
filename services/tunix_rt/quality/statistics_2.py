"""Statistics of version 2: intervals and p-values of means and of paired differences.

Each is for independent items, and for clusters by their design effect, so clusters of one item change nothing. Where
the data say nothing of their spread there is no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, inf, sqrt

from tunix_rt.quality.bounded_means import all_equal, counts_of, lower_mean_bound, upper_mean_bound
from tunix_rt.quality.clusters import Clusters, clusters_of, critical_value
from tunix_rt.quality.distributions import score_interval, t_quantile
from tunix_rt.quality.estimates import CONFIDENCE, Estimate
from tunix_rt.quality.paired import mcnemar_mid_p, mcnemar_mid_p_two_sided, tango_bound
from tunix_rt.quality.pairing import Pairing
from tunix_rt.quality.sign_flips import sign_flip_p

UNKNOWN = "unknown_spread"

_Ends = tuple[float | None, float | None, str]
_NONE: _Ends = (None, None, UNKNOWN)


def estimate_mean(values: Sequence[float], cluster_ids: Sequence[str], *, count: bool = False) -> Estimate:
    """Mean, standard deviation and 95 % interval of ``values``; an empty cluster id is an item without a cluster.

    Values in [0, 1]: Wilson's interval where all are 0 or 1, else the score interval of bounded values
    (`bounded_means`). Other values, and ``count``: Student's t, for clusters with the cluster-robust variance. Does not
    depend on the order of the items, to the last bit.
    """
    n = len(values)
    if n == 0:
        return Estimate(0, None, None, None, None, "")
    mean = fsum(values) / n
    stddev = sqrt(fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else None
    clusters = clusters_of(values, cluster_ids)
    low, high = min(values), max(values)
    if count or low < 0 or high > 1:
        ends = _student_t(clusters, mean, all_equal(values), (1 - CONFIDENCE) / 2)
        if count and ends[0] is not None:
            ends = (max(0.0, ends[0]), ends[1], ends[2])
    else:
        ends = _in_unit_interval(values, clusters, mean)
    return Estimate(n, mean, stddev, *ends)


def interval(pairing: Pairing, confidence: float) -> tuple[float, float]:
    """Two-sided interval of the difference; the whole range without a pair, or where the spread is unknown."""
    alpha = (1 - confidence) / 2
    return _bound(pairing, alpha, -1), _bound(pairing, alpha, 1)


def lower_bound(pairing: Pairing, alpha: float) -> float:
    """One-sided lower bound of the difference at level ``alpha``."""
    return _bound(pairing, alpha, -1)


def p_values(pairing: Pairing) -> tuple[float, float]:
    """(two-sided p-value, one-sided p-value that B is worse).

    Sign flips of the clusters' total differences. Of right-or-wrong items without clusters this is the mid-p McNemar
    test; of items in clusters, and of graded ones, ties count in full, so that the error is at most α even for four
    clusters. Where only a share of right-or-wrong items is clustered, ties count in between.
    """
    if pairing.binary and independent(pairing):
        return mcnemar_mid_p_two_sided(pairing.regressions, pairing.fixes), mcnemar_mid_p(
            pairing.regressions, pairing.fixes
        )
    ties = 1 - pairing.clusters.share_alone / 2 if pairing.binary else 1.0
    return sign_flip_p(pairing.clusters.totals, ties)


def independent(pairing: Pairing) -> bool:
    """Whether no two items share a cluster."""
    return pairing.clusters.single


def ci_method(pairing: Pairing) -> str:
    """Name of the interval's method."""
    if not pairing.pairs or _unknown(pairing):
        return UNKNOWN
    if not pairing.bounded and any(pairing.differences):
        return _student_t(pairing.clusters, pairing.delta, False, 0.05)[2]
    name = "tango" if pairing.binary else "bounded_score"
    return name if pairing.clusters.single else f"cluster_{name}"


def p_method(pairing: Pairing) -> str:
    """Name of the test."""
    return "mcnemar_mid_p" if pairing.binary and independent(pairing) else "sign_flip"


def _unknown(pairing: Pairing) -> bool:
    """Whether the pairs say nothing of the spread of their differences: all equal and not 0, or one cluster."""
    if not pairing.clusters.single and len(pairing.clusters.sizes) < 2:
        return True
    if pairing.binary:
        return False
    return any(pairing.differences) and all_equal(pairing.differences)


def _bound(pairing: Pairing, alpha: float, side: int) -> float:
    """The bound below (``side`` −1) or above (1) at one-sided level ``alpha``.

    What is not seen is assumed on the side of the bound: a cluster in which every item changes by the largest
    possible difference. Values that have no known limits get Student's t.
    """
    worst = side * pairing.scale
    if not pairing.pairs or _unknown(pairing):
        return worst
    if not pairing.bounded and any(pairing.differences):
        ends = _student_t(pairing.clusters, pairing.delta, False, alpha)
        end = ends[0] if side < 0 else ends[1]
        return worst if end is None else end
    critical = critical_value(pairing.clusters, pairing.squares, worst, alpha)
    if pairing.binary:
        return tango_bound(pairing.regressions, pairing.fixes, len(pairing.pairs), critical, side)
    counts = counts_of(pairing.differences)
    bound = lower_mean_bound if side < 0 else upper_mean_bound
    return bound(counts, worst, critical)


def _in_unit_interval(values: Sequence[float], clusters: Clusters, mean: float) -> _Ends:
    n = len(values)
    squares = fsum(v * v for v in values)
    critical = [critical_value(clusters, squares, unseen, (1 - CONFIDENCE) / 2) for unseen in (0.0, 1.0)]
    prefix = "" if clusters.single else "cluster_"
    if inf in critical:
        return _NONE
    if all(v in (0.0, 1.0) for v in values):
        low = 0.0 if mean == 0 else score_interval(mean, n, critical[0])[0]
        high = 1.0 if mean == 1 else score_interval(mean, n, critical[1])[1]
        return low, high, f"{prefix}wilson"
    if all_equal(values):
        return _NONE
    counts = counts_of(values)
    low = lower_mean_bound(counts, 0.0, critical[0])
    return low, upper_mean_bound(counts, 1.0, critical[1]), f"{prefix}bounded_score"


def _student_t(clusters: Clusters, mean: float, equal: bool, alpha: float) -> _Ends:
    """t over clusters at level ``alpha`` on each side, with the variance G/(G−1) · Σ_g (T_g − m_g·x̄)² / n² (Liang &
    Zeger 1986, doi 10.1093/biomet/73.1.13)."""
    groups, n = len(clusters.sizes), sum(clusters.sizes)
    if groups < 2 or equal:
        return _NONE
    squares = fsum((t - m * mean) ** 2 for t, m in zip(clusters.totals, clusters.sizes, strict=True))
    error = sqrt(groups / (groups - 1) * squares) / n
    if error <= 1e-12 * abs(mean):
        return _NONE
    half = t_quantile(1 - alpha, groups - 1) * error
    return mean - half, mean + half, "student_t" if clusters.single else "cluster_robust_t"
