"""Pairs the items of two evaluations by id: each item's change, and counts, means and clusters of the differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import fsum, isfinite

from tunix_rt.quality.clusters import Clusters, clusters_of
from tunix_rt.quality.estimates import clustered_variance


class ItemChange(StrEnum):
    """The change of an item from A to B."""

    REGRESSION = "regression"
    FIX = "fix"
    SAME = "same"
    UNPAIRED = "unpaired"


@dataclass(frozen=True)
class PairInput:
    """One item's value of the compared metric in one evaluation, None if it was not scored. Rows with the same item id
    are samples."""

    item_id: str
    value: float | None
    section: str = ""
    category: str = ""
    difficulty: str = ""
    cluster_id: str = ""


DIMENSIONS: Mapping[str, Callable[[PairInput], str]] = {
    "section": lambda item: item.section,
    "category": lambda item: item.category,
    "difficulty": lambda item: item.difficulty,
}


@dataclass(frozen=True)
class ItemDiff:
    """An item in both evaluations; a score is None if the item was not scored there."""

    item_id: str
    change: ItemChange
    baseline_score: float | None
    candidate_score: float | None


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
    """The pairs of two evaluations, ordered by item id, and every item's change."""

    pairs: tuple[Pair, ...]
    items: tuple[ItemDiff, ...]

    @cached_property
    def binary(self) -> bool:
        """Whether all values are 0 or 1."""
        return all(p.baseline in (0.0, 1.0) and p.candidate in (0.0, 1.0) for p in self.pairs)

    @cached_property
    def differences(self) -> tuple[float, ...]:
        """B − A of every pair."""
        return tuple(pair.candidate - pair.baseline for pair in self.pairs)

    @cached_property
    def regressions(self) -> int:
        """Items where B is worse."""
        return sum(difference < 0 for difference in self.differences)

    @cached_property
    def fixes(self) -> int:
        """Items where B is better."""
        return sum(difference > 0 for difference in self.differences)

    @cached_property
    def delta(self) -> float:
        """Mean of B − A; 0 without a pair."""
        return fsum(self.differences) / len(self.pairs) if self.pairs else 0.0

    @cached_property
    def squares(self) -> float:
        """Sum of the squared differences."""
        return fsum(d * d for d in self.differences)

    @cached_property
    def scale(self) -> float:
        """The largest possible difference of an item: 1 for values in [0, 1], else the largest absolute value."""
        return max([1.0, *(max(abs(pair.baseline), abs(pair.candidate)) for pair in self.pairs)])

    @cached_property
    def bounded(self) -> bool:
        """Whether all values are in [0, 1]."""
        return all(0 <= pair.baseline <= 1 and 0 <= pair.candidate <= 1 for pair in self.pairs)

    @cached_property
    def clusters(self) -> Clusters:
        """The differences by cluster; an item without a cluster is its own."""
        return clusters_of(self.differences, [pair.labels.cluster_id for pair in self.pairs])

    def slices(self, dimension: str) -> dict[str, Pairing]:
        """The pairs by label of the dimension, sorted by label; items without a label are left out."""
        label_of = DIMENSIONS[dimension]
        members: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            members.setdefault(label_of(pair.labels), []).append(pair)
        return {label: Pairing(tuple(members[label]), ()) for label in sorted(members) if label}

    def second_moment(self, independent: bool) -> float:
        """Mean squared difference per item, with the design effect of clusters unless items are ``independent``."""
        n = len(self.pairs)
        if not n:
            return 0.0
        plain = self.squares / n
        if independent:
            return plain
        variance, _ = clustered_variance(self.differences, [p.labels.cluster_id for p in self.pairs], self.delta)
        return max(plain, variance * n + self.delta**2)

    def variance(self, independent: bool) -> float:
        """Variance of an item's difference, as `second_moment`; 0 if all differences are equal."""
        spread = self.second_moment(independent) - self.delta**2
        return spread if spread > 1e-12 * self.delta**2 else 0.0


def pair_up(baseline: Sequence[PairInput], candidate: Sequence[PairInput], *, unit_interval: bool = True) -> Pairing:
    """The pairing of two evaluations' items by id; samples of one item are averaged.

    Raises ValueError for a value that is not in [0, 1], or, without ``unit_interval``, not finite.
    """
    a, b = _by_id(baseline, unit_interval), _by_id(candidate, unit_interval)
    pairs, items = [], []
    for item_id in sorted(a.keys() | b.keys()):
        before, after = _mean(a.get(item_id, [])), _mean(b.get(item_id, []))
        if before is None or after is None:
            change = ItemChange.UNPAIRED
        else:
            pairs.append(Pair(before, after, _labelled(a[item_id] + b[item_id])))
            change = ItemChange.SAME if before == after else ItemChange.FIX if after > before else ItemChange.REGRESSION
        items.append(ItemDiff(item_id, change, before, after))
    return Pairing(tuple(pairs), tuple(items))


def _by_id(rows: Sequence[PairInput], unit_interval: bool) -> dict[str, list[PairInput]]:
    by_id: dict[str, list[PairInput]] = {}
    for row in rows:
        if row.value is not None:
            if not isfinite(row.value):
                raise ValueError(f"item {row.item_id}: value {row.value} is not finite")
            if unit_interval and not 0 <= row.value <= 1:
                raise ValueError(f"item {row.item_id}: value {row.value} is not in [0, 1]")
        by_id.setdefault(row.item_id, []).append(row)
    return by_id


def _labelled(rows: Sequence[PairInput]) -> PairInput:
    """The row that provides the item's labels; independent of the order of the samples."""
    return min(rows, key=lambda row: (row.section, row.category, row.difficulty, row.cluster_id))


def _mean(rows: Sequence[PairInput]) -> float | None:
    values = [row.value for row in rows if row.value is not None]
    return fsum(values) / len(values) if values else None
