"""Paired comparison of two evaluations on the same items: is B better than A?

The order of the items never matters. The seed matters only for version 1 of the statistics (`methods`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunix_rt.quality.methods import CURRENT, Method
from tunix_rt.quality.paired import (
    detectable_difference,
    detectable_mean,
    discordant_items_to_detect,
    holm,
    mean_items_to_detect,
)
from tunix_rt.quality.pairing import DIMENSIONS, ItemChange, ItemDiff, Pairing, PairInput, pair_up

__all__ = [
    "ItemChange",
    "ItemDiff",
    "PairInput",
    "PairedComparison",
    "Pairing",
    "SliceComparison",
    "compare",
    "compare_many",
    "comparison_of",
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
    # None: version 1.
    statistics_version: int | None = None


def compare(
    baseline: Sequence[PairInput],
    candidate: Sequence[PairInput],
    *,
    higher_is_better: bool = True,
    unit_interval: bool = True,
) -> PairedComparison:
    """The paired comparison of B (``candidate``) with A (``baseline``), overall and per slice.

    Interval and p-values are those of `statistics_2`. If lower values are better, regressions and ``p_worse`` refer to
    larger values; delta stays B − A. ``unit_interval`` as in `pair_up`. The caller checks that the two are
    comparable (`identity.comparable`).
    """
    if higher_is_better:
        return comparison_of(pair_up(baseline, candidate, unit_interval=unit_interval))
    return turned_around(comparison_of(pair_up(candidate, baseline, unit_interval=unit_interval)))


def compare_many(
    baseline: Sequence[PairInput], candidates: Sequence[Sequence[PairInput]]
) -> tuple[PairedComparison, ...]:
    """Each candidate's comparison with the baseline, in the given order; ``p_adjusted`` is Holm-corrected over them."""
    found = [compare(baseline, candidate) for candidate in candidates]
    adjusted = holm([each.p_value for each in found])
    return tuple(replace(each, p_adjusted=p) for each, p in zip(found, adjusted, strict=True))


def comparison_of(pairing: Pairing, method: Method = CURRENT, seed: int = 0) -> PairedComparison:
    """The statistics of a pairing in which higher values are better."""
    n = len(pairing.pairs)
    p_value, p_worse = method.p_values(pairing, seed)
    low, high = method.interval(pairing, 0.95, seed)
    return PairedComparison(
        n_paired=n,
        n_regressions=pairing.regressions,
        n_fixes=pairing.fixes,
        n_same=n - pairing.regressions - pairing.fixes,
        n_unpaired=len(pairing.items) - n,
        delta=pairing.delta,
        ci_low=low,
        ci_high=high,
        ci_method=method.ci_method(pairing),
        p_value=p_value,
        p_method=method.p_method(pairing),
        p_worse=p_worse,
        p_adjusted=p_value,
        n_needed=_needed(pairing, method),
        detectable=_detectable(pairing, method),
        slices=_slices(pairing, method, seed),
        items=pairing.items,
        statistics_version=method.stored_version,
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


def _needed(pairing: Pairing, method: Method) -> int:
    if method.counts_suffice(pairing):
        return discordant_items_to_detect(pairing.delta, pairing.second_moment(True))
    return mean_items_to_detect(pairing.delta, pairing.variance(method.independent(pairing)))


def _detectable(pairing: Pairing, method: Method) -> float:
    if method.counts_suffice(pairing):
        return detectable_difference(len(pairing.pairs), pairing.second_moment(True))
    variance = pairing.variance(method.independent(pairing))
    if not variance:  # as many right-or-wrong items without a discordant one
        return pairing.scale * detectable_difference(len(pairing.clusters.sizes), 0.0)
    return min(pairing.scale, detectable_mean(len(pairing.pairs), variance))


def _negative(value: float) -> float:
    # 0.0 stays 0.0
    return 0.0 - value


def _slices(pairing: Pairing, method: Method, seed: int) -> tuple[SliceComparison, ...]:
    found = [
        (dimension, label, members, method.p_values(members, seed)[0])
        for dimension in DIMENSIONS
        for label, members in pairing.slices(dimension).items()
    ]
    adjusted = holm([p for _, _, _, p in found])
    return tuple(
        SliceComparison(dimension, label, len(members.pairs), members.delta, p, p_adjusted)
        for (dimension, label, members, p), p_adjusted in zip(found, adjusted, strict=True)
    )
