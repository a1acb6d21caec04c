"""Two evaluations on the same items: is B better than A?

Owns pairing, the choice of method, and the comparison per slice. The order of the items never matters; the seed does
only where a permutation or bootstrap is drawn (graded values, or clustered items).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import fsum, isfinite, sqrt

from tunix_rt.quality.distributions import t_quantile
from tunix_rt.quality.estimates import clustered_variance
from tunix_rt.quality.paired import (
    cluster_bootstrap_means,
    holm,
    items_to_detect,
    mcnemar_mid_p,
    mcnemar_mid_p_two_sided,
    quantile,
    sign_flip_p,
    tango_interval,
)


class ItemChange(StrEnum):
    """What became of an item from A to B."""

    REGRESSION = "regression"
    FIX = "fix"
    SAME = "same"
    UNPAIRED = "unpaired"


@dataclass(frozen=True)
class PairInput:
    """One item's score in one evaluation; ``value`` is in [0, 1], None when it was not scored. Rows of one item id
    are samples."""

    item_id: str
    value: float | None
    section: str = ""
    category: str = ""
    difficulty: str = ""
    cluster_id: str = ""


@dataclass(frozen=True)
class ItemDiff:
    """An item in both evaluations; a score is None where it was not scored there."""

    item_id: str
    change: ItemChange
    baseline_score: float | None
    candidate_score: float | None


@dataclass(frozen=True)
class SliceComparison:
    """``p_value`` is two-sided; ``p_adjusted`` is after Holm's correction over all slices of the comparison."""

    dimension: str
    value: str
    n_paired: int
    delta: float
    p_value: float
    p_adjusted: float


@dataclass(frozen=True)
class PairedComparison:
    """B minus A on the items scored in both. Without a pair: delta 0, interval [-1, 1], p-values 1."""

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
    n_needed: int
    slices: tuple[SliceComparison, ...]
    items: tuple[ItemDiff, ...]


@dataclass(frozen=True)
class Pair:
    """One item's values in A and B, both scored."""

    baseline: float
    candidate: float
    labels: PairInput

    @property
    def difference(self) -> float:
        """B − A."""
        return self.candidate - self.baseline


@dataclass(frozen=True)
class Pairing:
    """The pairs of two evaluations in the order of their ids, and every item's change."""

    pairs: tuple[Pair, ...]
    items: tuple[ItemDiff, ...]

    @property
    def binary(self) -> bool:
        """Whether counts of discordant items say everything: values 0 and 1, no clusters."""
        return all({p.baseline, p.candidate} <= {0.0, 1.0} and not p.labels.cluster_id for p in self.pairs)

    @property
    def regressions(self) -> int:
        """Items where B is worse."""
        return sum(pair.difference < 0 for pair in self.pairs)

    @property
    def fixes(self) -> int:
        """Items where B is better."""
        return sum(pair.difference > 0 for pair in self.pairs)

    @property
    def delta(self) -> float:
        """Mean of B − A; 0 without a pair."""
        return fsum(pair.difference for pair in self.pairs) / len(self.pairs) if self.pairs else 0.0

    def clusters(self) -> tuple[list[float], list[int]]:
        """Total difference and size of each cluster; an item without one is a cluster of its own."""
        groups: dict[tuple[str, str], list[float]] = {}
        for pair in self.pairs:
            name = pair.labels.cluster_id
            groups.setdefault((name, "") if name else ("", pair.labels.item_id), []).append(pair.difference)
        return [fsum(group) for group in groups.values()], [len(group) for group in groups.values()]

    def second_moment(self) -> float:
        """Mean squared difference per item, with the design effect of the clusters."""
        n = len(self.pairs)
        if not n:
            return 0.0
        differences = [pair.difference for pair in self.pairs]
        plain = fsum(d * d for d in differences) / n
        if not any(pair.labels.cluster_id for pair in self.pairs):
            return plain
        variance, _ = clustered_variance(differences, [p.labels.cluster_id for p in self.pairs], self.delta)
        return max(plain, variance * n + self.delta**2)


def pair_up(baseline: Sequence[PairInput], candidate: Sequence[PairInput]) -> Pairing:
    """The pairing of two evaluations' items by id; samples of one item are averaged.

    Raises ValueError for a value that is not in [0, 1].
    """
    a, b = _by_id(baseline), _by_id(candidate)
    pairs, items = [], []
    for item_id in sorted(a.keys() | b.keys()):
        before, after = _mean(a.get(item_id, [])), _mean(b.get(item_id, []))
        if before is None or after is None:
            change = ItemChange.UNPAIRED
        else:
            pairs.append(Pair(before, after, (a[item_id] + b[item_id])[0]))
            change = ItemChange.SAME if before == after else ItemChange.FIX if after > before else ItemChange.REGRESSION
        items.append(ItemDiff(item_id, change, before, after))
    return Pairing(tuple(pairs), tuple(items))


def compare(baseline: Sequence[PairInput], candidate: Sequence[PairInput], *, seed: int = 0) -> PairedComparison:
    """The paired comparison of B (``candidate``) with A (``baseline``), overall and per slice.

    Binary unclustered items: Tango's interval and mid-p McNemar. Otherwise: cluster bootstrap percentiles and the
    sign-flip permutation of cluster totals, both seeded. Whether the two may be compared at all is for the caller
    (`identity.comparable`).
    """
    pairing = pair_up(baseline, candidate)
    n = len(pairing.pairs)
    p_value, p_worse = _p_values(pairing, seed)
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
        n_needed=items_to_detect(pairing.delta, pairing.second_moment()),
        slices=_slices(pairing, seed),
        items=pairing.items,
    )


def interval(pairing: Pairing, confidence: float, seed: int) -> tuple[float, float]:
    """Two-sided interval of the difference; [-1, 1] without a pair."""
    if not pairing.pairs:
        return -1.0, 1.0
    if pairing.binary:
        return tango_interval(pairing.regressions, pairing.fixes, len(pairing.pairs), confidence)
    sums, sizes = pairing.clusters()
    if not any(sums) or len(sums) < 2:
        return _silent_interval(len(sums), confidence)
    replicates = cluster_bootstrap_means(sums, sizes, seed)
    return quantile(replicates, (1 - confidence) / 2), quantile(replicates, (1 + confidence) / 2)


def lower_bound(pairing: Pairing, alpha: float, seed: int) -> float:
    """One-sided lower bound of the difference at level ``alpha``.

    Binary: Tango's. Graded: the lower of the bootstrap's and the cluster-robust t's, because percentiles are too
    narrow when there are few clusters.
    """
    low, _ = interval(pairing, 1 - 2 * alpha, seed)
    sums, _ = pairing.clusters()
    if pairing.binary or len(sums) < 2 or not any(sums):
        return low
    differences = [pair.difference for pair in pairing.pairs]
    variance, groups = clustered_variance(differences, [p.labels.cluster_id for p in pairing.pairs], pairing.delta)
    return max(-1.0, min(low, pairing.delta - t_quantile(1 - alpha, groups - 1) * sqrt(variance)))


def _silent_interval(clusters: int, confidence: float) -> tuple[float, float]:
    """When no cluster differs, or there is only one, resampling knows nothing: as for so many binary items without a
    discordant one."""
    return tango_interval(0, 0, clusters, confidence) if clusters > 1 else (-1.0, 1.0)


def _p_values(pairing: Pairing, seed: int) -> tuple[float, float]:
    """(two-sided, one-sided that B is worse)."""
    if pairing.binary:
        regressions, fixes = pairing.regressions, pairing.fixes
        return mcnemar_mid_p_two_sided(regressions, fixes), mcnemar_mid_p(regressions, fixes)
    return sign_flip_p(pairing.clusters()[0], seed)


_DIMENSIONS: Mapping[str, Callable[[PairInput], str]] = {
    "section": lambda item: item.section,
    "category": lambda item: item.category,
    "difficulty": lambda item: item.difficulty,
}


def _slices(pairing: Pairing, seed: int) -> tuple[SliceComparison, ...]:
    found: list[tuple[str, str, Pairing, float]] = []
    for dimension, label_of in _DIMENSIONS.items():
        for label in sorted({label_of(pair.labels) for pair in pairing.pairs} - {""}):
            members = Pairing(tuple(pair for pair in pairing.pairs if label_of(pair.labels) == label), ())
            found.append((dimension, label, members, _p_values(members, seed)[0]))
    adjusted = holm([p for _, _, _, p in found])
    return tuple(
        SliceComparison(dimension, label, len(members.pairs), members.delta, p, p_adjusted)
        for (dimension, label, members, p), p_adjusted in zip(found, adjusted, strict=True)
    )


def _by_id(rows: Sequence[PairInput]) -> dict[str, list[PairInput]]:
    by_id: dict[str, list[PairInput]] = {}
    for row in rows:
        if row.value is not None and not (isfinite(row.value) and 0 <= row.value <= 1):
            raise ValueError(f"item {row.item_id}: value {row.value} is not in [0, 1]")
        by_id.setdefault(row.item_id, []).append(row)
    return by_id


def _mean(rows: Sequence[PairInput]) -> float | None:
    values = [row.value for row in rows if row.value is not None]
    return fsum(values) / len(values) if values else None
