"""Statistics of version 1: intervals and p-values as scorecards and gate decisions had them before version 2.

Only to read what was stored under that version: evidence is verified, and a decision repeated, with the method that
made it. Its faults are the reason for version 2: the bootstrap of few discordant items is too short, and values that
are all equal get an interval of width zero.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import fsum, sqrt
from operator import getitem, itemgetter

from tunix_rt.quality.distributions import score_interval, t_quantile, wilson_interval
from tunix_rt.quality.estimates import CONFIDENCE, Estimate, clustered_variance
from tunix_rt.quality.paired import mcnemar_mid_p, mcnemar_mid_p_two_sided, tango_interval
from tunix_rt.quality.pairing import Pairing

PERMUTATIONS = 10_000
RESAMPLES = 10_000
_EXACT_BELOW = 14


def estimate_mean(values: Sequence[float], clusters: Sequence[str], *, count: bool = False) -> Estimate:
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


def interval(pairing: Pairing, confidence: float, seed: int) -> tuple[float, float]:
    """Two-sided interval of the difference; [-1, 1] without a pair."""
    if not pairing.pairs:
        return -1.0, 1.0
    if _counts_suffice(pairing):
        return tango_interval(pairing.regressions, pairing.fixes, len(pairing.pairs), confidence)
    sums, sizes = _clusters(pairing)
    if not any(sums) or len(sums) < 2:
        return _degenerate_interval(pairing, len(sums), confidence)
    replicates = cluster_bootstrap_means(sums, sizes, seed)
    return quantile(replicates, (1 - confidence) / 2), quantile(replicates, (1 + confidence) / 2)


def lower_bound(pairing: Pairing, alpha: float, seed: int) -> float:
    """One-sided lower bound of the difference at level ``alpha``; at least −1 for values in [0, 1].

    Binary: Tango's. Graded: the lower of the bootstrap bound and the cluster-robust t bound, because bootstrap
    percentiles are too narrow with few clusters.
    """
    low, _ = interval(pairing, 1 - 2 * alpha, seed)
    sums, _ = _clusters(pairing)
    if _counts_suffice(pairing) or len(sums) < 2 or not any(sums):
        return low
    differences = [pair.difference for pair in pairing.pairs]
    variance, groups = clustered_variance(differences, [p.labels.cluster_id for p in pairing.pairs], pairing.delta)
    bound = min(low, pairing.delta - t_quantile(1 - alpha, groups - 1) * sqrt(variance))
    return bound if pairing.scale > 1 else max(-1.0, bound)


def p_values(pairing: Pairing, seed: int) -> tuple[float, float]:
    """(two-sided p-value, one-sided p-value that B is worse)."""
    if _counts_suffice(pairing):
        regressions, fixes = pairing.regressions, pairing.fixes
        return mcnemar_mid_p_two_sided(regressions, fixes), mcnemar_mid_p(regressions, fixes)
    return sign_flip_p(_clusters(pairing)[0], seed)


def ci_method(pairing: Pairing) -> str:
    """Name of the interval's method."""
    return "tango" if _counts_suffice(pairing) else "cluster_bootstrap"


def p_method(pairing: Pairing) -> str:
    """Name of the test."""
    return "mcnemar_mid_p" if _counts_suffice(pairing) else "sign_flip"


def independent(pairing: Pairing) -> bool:
    """Whether no item has a cluster id: one that has, even alone, makes all of them clustered."""
    return not any(pair.labels.cluster_id for pair in pairing.pairs)


def _counts_suffice(pairing: Pairing) -> bool:
    return pairing.binary and independent(pairing)


def _clusters(pairing: Pairing) -> tuple[list[float], list[int]]:
    return list(pairing.clusters.totals), list(pairing.clusters.sizes)


def _degenerate_interval(pairing: Pairing, clusters: int, confidence: float) -> tuple[float, float]:
    """Without a difference between clusters, or with one cluster, the bootstrap is degenerate: use Tango's interval of
    as many binary items without a discordant one."""
    low, high = tango_interval(0, 0, clusters, confidence) if clusters > 1 else (-1.0, 1.0)
    return low * pairing.scale, high * pairing.scale


def sign_flip_p(differences: Sequence[float], seed: int) -> tuple[float, float]:
    """(two-sided, one-sided that the mean is below 0) p-values of the sign-flip permutation test.

    ``differences`` are B − A, summed per cluster when there are clusters. Exact when at most 14 of them are not 0,
    else by 10,000 seeded flips counted as (hits + 1)/(flips + 1) (Phipson & Smyth 2010, doi 10.2202/1544-6115.1585).
    """
    nonzero = sorted(d for d in differences if d != 0)
    if not nonzero:
        return 1.0, 1.0
    observed = fsum(nonzero)
    # Sums that differ only by rounding are ties; ties count as at least as extreme.
    slack = 1e-12 * fsum(map(abs, nonzero))
    exact = len(nonzero) <= _EXACT_BELOW
    total = 2 ** len(nonzero) if exact else PERMUTATIONS
    source = random.Random(seed)
    both = worse = 0
    tables = _signed_sums(nonzero)
    for number in range(total):
        signs = number if exact else source.getrandbits(len(nonzero))
        flipped = sum(map(getitem, tables, signs.to_bytes(len(tables), "little")))
        both += abs(flipped) >= abs(observed) - slack
        worse += flipped <= observed + slack
    if exact:
        return both / total, worse / total
    return (both + 1) / (total + 1), (worse + 1) / (total + 1)


def _signed_sums(values: Sequence[float]) -> list[list[float]]:
    """For each group of eight values, their sums under all signs. Bit i of the index is the sign of value i, 1 = +."""
    tables = []
    for start in range(0, len(values), 8):
        sums = [0.0]
        for value in values[start : start + 8]:
            sums = [each - value for each in sums] + [each + value for each in sums]
        tables.append(sums)
    return tables


def cluster_bootstrap_means(sums: Sequence[float], sizes: Sequence[int], seed: int) -> list[float]:
    """10,000 seeded bootstrap replicates of the mean difference, sorted; clusters are resampled as a whole.

    ``sums`` and ``sizes`` are each cluster's total difference and number of items (Davison & Hinkley 1997, §3.8).
    """
    order = sorted(zip(sums, sizes, strict=True))
    source = random.Random(seed)
    if len(set(sizes)) == 1:
        # Equal cluster sizes: the number of items is constant, only the totals are drawn.
        totals, items = [total for total, _ in order], sum(sizes)
        return sorted(sum(source.choices(totals, k=len(totals))) / items for _ in range(RESAMPLES))
    replicates = []
    for _ in range(RESAMPLES):
        drawn = source.choices(order, k=len(order))
        replicates.append(sum(map(itemgetter(0), drawn)) / sum(map(itemgetter(1), drawn)))
    return sorted(replicates)


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of sorted values, linear between order statistics."""
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])
