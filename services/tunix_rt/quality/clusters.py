"""Clusters of items that are not independent of each other: several questions on one text.

Owns what a cluster is and what clusters cost: the design effect and the degrees of freedom. An item without a cluster
id is a cluster of its own, and where every cluster has one item, nothing is clustered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, inf, sqrt

from tunix_rt.quality.distributions import normal_quantile, t_quantile


@dataclass(frozen=True)
class Clusters:
    """The total of the values of each cluster, and its number of items, in the same order."""

    totals: tuple[float, ...]
    sizes: tuple[int, ...]

    @property
    def single(self) -> bool:
        """Whether every cluster has one item: the items are independent."""
        return max(self.sizes, default=1) == 1

    @property
    def share_alone(self) -> float:
        """Share of the items that are alone in their cluster; 1 without an item."""
        items = sum(self.sizes)
        return self.sizes.count(1) / items if items else 1.0

    @property
    def degrees_of_freedom(self) -> float:
        """Of the design effect: G − 1 for G clusters, more where only a part of the items is clustered, infinite where
        none is."""
        shared = 1 - self.share_alone
        return inf if self.single else (len(self.sizes) - 1) / shared


def clusters_of(values: Sequence[float], cluster_ids: Sequence[str]) -> Clusters:
    """The clusters of ``values``; an empty id is a cluster of its own. Totals are exactly rounded."""
    groups: dict[str, list[float]] = {}
    alone: list[float] = []
    for value, cluster in zip(values, cluster_ids, strict=True):
        if cluster:
            groups.setdefault(cluster, []).append(value)
        else:
            alone.append(value)
    return Clusters(
        (*(fsum(group) for group in groups.values()), *alone), (*map(len, groups.values()), *([1] * len(alone)))
    )


def design_effect(clusters: Clusters, squares: float, unseen: float) -> float:
    """By how much clusters increase the variance of the mean of n items: 1 when they are independent.

    The variance of the clusters' totals over that of as many independent items, Σ(T_g − m_g·x̄)² / Σ(x_i − x̄)² (Rao &
    Scott 1992, doi 10.2307/2532311, for proportions), with ``squares`` = Σx². The data have one cluster more than were
    seen, of average size (weighted by size), in which every item has the value ``unseen``: a few clusters rarely show
    the ones that change as a whole, and without it the gate passes up to 46 % of the models that it must not
    (tests/bench/statistics). At least 1 and at most the average size.
    """
    items = sum(clusters.sizes)
    mean = fsum(clusters.totals) / items
    size = sum(m * m for m in clusters.sizes) / items
    away = (unseen - mean) ** 2
    between = fsum((t - m * mean) ** 2 for t, m in zip(clusters.totals, clusters.sizes, strict=True))
    within = squares - items * mean * mean
    independent = max(0.0, within) + size * away
    return max(1.0, min(size, (between + size * size * away) / independent)) if independent else size


def critical_value(clusters: Clusters, squares: float, unseen: float, alpha: float) -> float:
    """By how many standard errors of independent items a mean must differ at one-sided level ``alpha``: the normal
    quantile for independent items, else t's times the root of the design effect; infinite for a single cluster."""
    if clusters.single:
        return normal_quantile(1 - alpha)
    if len(clusters.sizes) < 2:
        return inf
    return t_quantile(1 - alpha, clusters.degrees_of_freedom) * sqrt(design_effect(clusters, squares, unseen))
