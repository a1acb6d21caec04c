"""Paired comparison of two evaluations on the same items: is B better than A?

The order of the items never matters. The seed matters only for a permutation test or bootstrap (graded values or
clustered items).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

from tunix_rt.quality.distributions import t_quantile
from tunix_rt.quality.estimates import clustered_variance
from tunix_rt.quality.paired import (
    cluster_bootstrap_means,
    detectable_difference,
    detectable_mean,
    discordant_items_to_detect,
    holm,
    mcnemar_mid_p,
    mcnemar_mid_p_two_sided,
    mean_items_to_detect,
    quantile,
    sign_flip_p,
    tango_interval,
)
from tunix_rt.quality.pairing import DIMENSIONS, ItemChange, ItemDiff, Pairing, PairInput, pair_up

__all__ = [
    "ItemChange",
    "ItemDiff",
    "PairInput",
    "PairedComparison",
    "Pairing",
    "SliceComparison",
    "closed_interval",
    "compare",
    "compare_many",
    "comparison_of",
    "interval",
    "lower_bound",
    "p_values",
    "pair_up",
    "turned_around",
]


@dataclass(frozen=True)
class SliceComparison:
    """``p_value`` is two-sided; ``p_adjusted`` is Holm-corrected over all slices of the comparison."""

    dimension: str
    value: str
    n_paired: int
    delta: float
    p_value: float
    p_adjusted: float


@dataclass(frozen=True)
class PairedComparison:
    """B minus A on the items scored in both. Without a pair: delta 0, interval [-1, 1], p-values and detectable 1.

    ``p_adjusted`` is ``p_value``, Holm-corrected over the candidates that were compared together. ``detectable`` is the
    smallest |delta| that this number of items shows with 80 % power at the observed discordance.
    """

    n_paired: int
    n_regressions: int
    n_fixes: int
    n_same: int
    n_unpaired: int
    delta: float
    ci_low: float
    ci_high: float
    ci_method: str
    p_value: float
    p_method: str
    p_worse: float
    p_adjusted: float
    n_needed: int
    detectable: float
    slices: tuple[SliceComparison, ...]
    items: tuple[ItemDiff, ...]


def compare(
    baseline: Sequence[PairInput],
    candidate: Sequence[PairInput],
    *,
    seed: int = 0,
    higher_is_better: bool = True,
    unit_interval: bool = True,
) -> PairedComparison:
    """The paired comparison of B (``candidate``) with A (``baseline``), overall and per slice.

    Binary unclustered items: Tango's interval and mid-p McNemar. Otherwise: cluster bootstrap percentiles and the
    sign-flip permutation of cluster totals, both seeded. If lower values are better, regressions and ``p_worse`` refer
    to larger values; delta stays B − A. ``unit_interval`` as in `pair_up`. The caller checks that the two are
    comparable (`identity.comparable`).
    """
    if higher_is_better:
        return comparison_of(pair_up(baseline, candidate, unit_interval=unit_interval), seed)
    return turned_around(comparison_of(pair_up(candidate, baseline, unit_interval=unit_interval), seed))


def compare_many(
    baseline: Sequence[PairInput], candidates: Sequence[Sequence[PairInput]], *, seed: int = 0
) -> tuple[PairedComparison, ...]:
    """Each candidate's comparison with the baseline, in the given order; ``p_adjusted`` is Holm-corrected over them."""
    found = [compare(baseline, candidate, seed=seed) for candidate in candidates]
    adjusted = holm([each.p_value for each in found])
    return tuple(replace(each, p_adjusted=p) for each, p in zip(found, adjusted, strict=True))


def comparison_of(pairing: Pairing, seed: int) -> PairedComparison:
    """The statistics of a pairing in which higher values are better."""
    n = len(pairing.pairs)
    p_value, p_worse = p_values(pairing, seed)
    low, high = interval(pairing, 0.95, seed)
    return PairedComparison(
        n_paired=n,
        n_regressions=pairing.regressions,
        n_fixes=pairing.fixes,
        n_same=n - pairing.regressions - pairing.fixes,
        n_unpaired=len(pairing.items) - n,
        delta=pairing.delta,
        ci_low=low,
        ci_high=high,
        ci_method="tango" if pairing.binary else "cluster_bootstrap",
        p_value=p_value,
        p_method="mcnemar_mid_p" if pairing.binary else "sign_flip",
        p_worse=p_worse,
        p_adjusted=p_value,
        n_needed=_needed(pairing),
        detectable=_detectable(pairing),
        slices=_slices(pairing, seed),
        items=pairing.items,
    )


def turned_around(found: PairedComparison) -> PairedComparison:
    """Swap the sides of a comparison whose lower values are better: regressions stay regressions."""
    return replace(
        found,
        delta=_negative(found.delta),
        ci_low=_negative(found.ci_high),
        ci_high=_negative(found.ci_low),
        slices=tuple(replace(part, delta=_negative(part.delta)) for part in found.slices),
        items=tuple(
            replace(item, baseline_score=item.candidate_score, candidate_score=item.baseline_score)
            for item in found.items
        ),
    )


def interval(pairing: Pairing, confidence: float, seed: int) -> tuple[float, float]:
    """Two-sided interval of the difference; [-1, 1] without a pair."""
    if not pairing.pairs:
        return -1.0, 1.0
    if pairing.binary:
        return tango_interval(pairing.regressions, pairing.fixes, len(pairing.pairs), confidence)
    sums, sizes = pairing.clusters()
    if not any(sums) or len(sums) < 2:
        return _degenerate_interval(pairing, len(sums), confidence)
    replicates = cluster_bootstrap_means(sums, sizes, seed)
    return quantile(replicates, (1 - confidence) / 2), quantile(replicates, (1 + confidence) / 2)


def closed_interval(pairing: Pairing, confidence: float) -> tuple[float, float]:
    """`interval` in closed form: graded values get the cluster-robust t interval of their differences.

    For many comparisons, because a bootstrap of a thousand items takes seconds. Clipped to [-1, 1] for values in
    [0, 1].
    """
    if not pairing.pairs or pairing.binary:
        return interval(pairing, confidence, 0)
    sums, _ = pairing.clusters()
    if not any(sums) or len(sums) < 2:
        return _degenerate_interval(pairing, len(sums), confidence)
    differences = [pair.difference for pair in pairing.pairs]
    variance, groups = clustered_variance(differences, [p.labels.cluster_id for p in pairing.pairs], pairing.delta)
    half = t_quantile(0.5 + confidence / 2, groups - 1) * sqrt(variance)
    low, high = pairing.delta - half, pairing.delta + half
    return (low, high) if pairing.scale > 1 else (max(-1.0, low), min(1.0, high))


def lower_bound(pairing: Pairing, alpha: float, seed: int) -> float:
    """One-sided lower bound of the difference at level ``alpha``; at least −1 for values in [0, 1].

    Binary: Tango's. Graded: the lower of the bootstrap bound and the cluster-robust t bound, because bootstrap
    percentiles are too narrow with few clusters.
    """
    low, _ = interval(pairing, 1 - 2 * alpha, seed)
    sums, _ = pairing.clusters()
    if pairing.binary or len(sums) < 2 or not any(sums):
        return low
    differences = [pair.difference for pair in pairing.pairs]
    variance, groups = clustered_variance(differences, [p.labels.cluster_id for p in pairing.pairs], pairing.delta)
    bound = min(low, pairing.delta - t_quantile(1 - alpha, groups - 1) * sqrt(variance))
    return bound if pairing.scale > 1 else max(-1.0, bound)


def p_values(pairing: Pairing, seed: int) -> tuple[float, float]:
    """(two-sided p-value, one-sided p-value that B is worse)."""
    if pairing.binary:
        regressions, fixes = pairing.regressions, pairing.fixes
        return mcnemar_mid_p_two_sided(regressions, fixes), mcnemar_mid_p(regressions, fixes)
    return sign_flip_p(pairing.clusters()[0], seed)


def _degenerate_interval(pairing: Pairing, clusters: int, confidence: float) -> tuple[float, float]:
    """Without a difference between clusters, or with one cluster, the bootstrap is degenerate: use Tango's interval of
    as many binary items without a discordant one."""
    low, high = tango_interval(0, 0, clusters, confidence) if clusters > 1 else (-1.0, 1.0)
    return low * pairing.scale, high * pairing.scale


def _needed(pairing: Pairing) -> int:
    if pairing.binary:
        return discordant_items_to_detect(pairing.delta, pairing.second_moment())
    return mean_items_to_detect(pairing.delta, pairing.variance())


def _detectable(pairing: Pairing) -> float:
    if pairing.binary:
        return detectable_difference(len(pairing.pairs), pairing.second_moment())
    variance = pairing.variance()
    if not variance:  # as in _degenerate_interval
        return pairing.scale * detectable_difference(len(pairing.clusters()[0]), 0.0)
    return min(pairing.scale, detectable_mean(len(pairing.pairs), variance))


def _negative(value: float) -> float:
    # 0.0 stays 0.0
    return 0.0 - value


def _slices(pairing: Pairing, seed: int) -> tuple[SliceComparison, ...]:
    found = [
        (dimension, label, members, p_values(members, seed)[0])
        for dimension in DIMENSIONS
        for label, members in pairing.slices(dimension).items()
    ]
    adjusted = holm([p for _, _, _, p in found])
    return tuple(
        SliceComparison(dimension, label, len(members.pairs), members.delta, p, p_adjusted)
        for (dimension, label, members, p), p_adjusted in zip(found, adjusted, strict=True)
    )
