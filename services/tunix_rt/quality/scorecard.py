"""The scorecard of an evaluation: score, interval, slices, metrics and verdict.

The result does not depend on the order of the rows, to the last bit.

Rows with the same item id are samples. The item's value is the mean of its scored samples, so the interval treats
items, not samples, as independent. An item is SCORED if any sample is. Coverage counts samples.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import fsum, isfinite

from tunix_rt.contract.scores import DEFAULT_THRESHOLD
from tunix_rt.quality.methods import CURRENT, Method
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.repeats import RepeatEstimate, Samples, repeat_estimates
from tunix_rt.quality.scorers import BUILT_IN_SCORERS

MIN_COVERAGE = 0.98


class Verdict(StrEnum):
    """Whether the score reaches the threshold."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNCERTAIN = "UNCERTAIN"
    INVALID = "INVALID"


@dataclass(frozen=True)
class Scored:
    """One stored item result; ``value`` is its answer_correctness in [0, 1], None unless SCORED.

    Rows of an item with the same ``answer_key`` have the same answer (`votes.answer_key`); "": no answer.
    """

    item_id: str
    outcome: Outcome
    value: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    section: str = "core"
    category: str = ""
    difficulty: str = ""
    cluster_id: str = ""
    answer_key: str = ""


@dataclass(frozen=True)
class SliceScore:
    """The score of the items with the same label; ``dimension`` is section, category or difficulty."""

    dimension: str
    value: str
    n_items: int
    n_scored: int
    primary_score: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class MetricEstimate:
    """A metric's mean over the ``n`` items that have it; an item's value is the mean of its scored samples."""

    metric: str
    n: int
    mean: float
    stddev: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str


@dataclass(frozen=True)
class Scorecard:
    """Fields as in evaluations.proto; None: absent in the proto."""

    n_items: int
    n_scored: int
    n_skipped: int
    n_errored: int
    coverage: float
    primary_score: float | None
    stddev: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str
    worst_case: float | None
    best_case: float | None
    slices: tuple[SliceScore, ...]
    metric_means: dict[str, float]
    verdict: Verdict
    threshold: float
    metric_estimates: tuple[MetricEstimate, ...] = ()
    repeats: tuple[RepeatEstimate, ...] = ()
    # None: version 1.
    statistics_version: int | None = None


@dataclass(frozen=True)
class _Item:
    """The samples of one item combined; ``row`` provides the item's labels."""

    outcome: Outcome
    value: float | None
    samples: int
    scored: tuple[Scored, ...]
    row: Scored


_DIMENSIONS: dict[str, Callable[[Scored], str]] = {
    "section": lambda row: row.section,
    "category": lambda row: row.category,
    "difficulty": lambda row: row.difficulty,
}


def scorecard(
    rows: Sequence[Scored],
    threshold: float = DEFAULT_THRESHOLD,
    *,
    counts: Collection[str] = BUILT_IN_SCORERS.counts,
    method: Method = CURRENT,
) -> Scorecard:
    """The scorecard of ``rows``. The verdict compares the interval with ``threshold`` in [0, 1].

    ``counts`` names the metrics that are counts of at least 0, not shares in [0, 1].

    Raises ValueError for a SCORED row whose value is not in [0, 1], or an unscored row that has one.
    """
    items = _items(rows)
    scored = [item for item in items if item.value is not None]
    values = [item.value for item in scored if item.value is not None]
    estimate = method.estimate_mean(values, [item.row.cluster_id for item in scored])
    samples = sum(item.samples for item in items)
    coverage = sum(len(item.scored) for item in items) / samples if samples else 0.0
    total, missing = fsum(values), len(items) - len(values)
    metrics = _metric_estimates(scored, counts, method)
    return Scorecard(
        n_items=len(items),
        n_scored=len(scored),
        n_skipped=sum(item.outcome is Outcome.SKIPPED for item in items),
        n_errored=sum(item.outcome is Outcome.ERRORED for item in items),
        coverage=coverage,
        primary_score=estimate.mean,
        stddev=estimate.stddev,
        ci_low=estimate.low,
        ci_high=estimate.high,
        ci_method=estimate.method,
        worst_case=total / len(items) if items else None,
        best_case=fsum([*values, float(missing)]) / len(items) if items else None,
        slices=_slices(items, method),
        metric_means={found.metric: found.mean for found in metrics},
        verdict=verdict(coverage, estimate.low, estimate.high, threshold),
        threshold=threshold,
        metric_estimates=metrics,
        repeats=_repeats(items, method),
        statistics_version=method.stored_version,
    )


def verdict(coverage: float, ci_low: float | None, ci_high: float | None, threshold: float) -> Verdict:
    """PASS if the interval is at or above the threshold, FAIL if below, INVALID if coverage is too low."""
    if coverage < MIN_COVERAGE:
        return Verdict.INVALID
    if ci_low is None or ci_high is None:
        return Verdict.UNCERTAIN
    if ci_low >= threshold:
        return Verdict.PASS
    return Verdict.FAIL if ci_high < threshold else Verdict.UNCERTAIN


def _items(rows: Sequence[Scored]) -> list[_Item]:
    by_id: dict[str, list[Scored]] = {}
    for row in rows:
        _check(row)
        by_id.setdefault(row.item_id, []).append(row)
    return [_item(by_id[item_id]) for item_id in sorted(by_id)]


def _check(row: Scored) -> None:
    if (row.value is not None) != (row.outcome is Outcome.SCORED):
        raise ValueError(f"item {row.item_id}: outcome {row.outcome} and value {row.value} do not go together")
    if row.value is not None and not (isfinite(row.value) and 0 <= row.value <= 1):
        raise ValueError(f"item {row.item_id}: value {row.value} is not in [0, 1]")


def _item(samples: list[Scored]) -> _Item:
    if len(samples) == 1:
        [row] = samples
        return _Item(row.outcome, row.value, 1, () if row.value is None else (row,), row)
    scored = tuple(row for row in samples if row.value is not None)
    values = [row.value for row in scored if row.value is not None]
    if values:
        outcome = Outcome.SCORED
    else:
        errored = any(row.outcome is Outcome.ERRORED for row in samples)
        outcome = Outcome.ERRORED if errored else Outcome.SKIPPED
    labelled = min(samples, key=lambda row: (row.section, row.category, row.difficulty, row.cluster_id))
    return _Item(outcome, fsum(values) / len(values) if values else None, len(samples), scored, labelled)


def _slices(items: Sequence[_Item], method: Method) -> tuple[SliceScore, ...]:
    slices = []
    for dimension, label_of in _DIMENSIONS.items():
        by_label: dict[str, list[_Item]] = {}
        for item in items:
            by_label.setdefault(label_of(item.row), []).append(item)
        for label in sorted(by_label.keys() - {""}):
            members = by_label[label]
            scored = [item for item in members if item.value is not None]
            values = [item.value for item in scored if item.value is not None]
            found = method.estimate_mean(values, [item.row.cluster_id for item in scored])
            slices.append(SliceScore(dimension, label, len(members), len(scored), found.mean, found.low, found.high))
    return tuple(slices)


def _metric_estimates(items: Sequence[_Item], counts: Collection[str], method: Method) -> tuple[MetricEstimate, ...]:
    """Every metric of the scored items, sorted by name, without values that are not finite."""
    values: dict[str, list[float]] = {}
    clusters: dict[str, list[str]] = {}
    for item in items:
        for name, value in _metrics_of(item).items():
            values.setdefault(name, []).append(value)
            clusters.setdefault(name, []).append(item.row.cluster_id)
    found = []
    for name in sorted(values):
        known = method.estimate_mean(values[name], clusters[name], count=name in counts)
        found.append(
            MetricEstimate(name, known.n, known.mean or 0.0, known.stddev, known.low, known.high, known.method)
        )
    return tuple(found)


def _metrics_of(item: _Item) -> Mapping[str, float]:
    """The item's value of each metric: the mean of its scored samples."""
    if len(item.scored) == 1:
        return {name: value for name, value in item.scored[0].metrics.items() if isfinite(value)}
    of_item: dict[str, list[float]] = {}
    for row in item.scored:
        for name, value in row.metrics.items():
            if isfinite(value):
                of_item.setdefault(name, []).append(value)
    return {name: fsum(samples) / len(samples) for name, samples in of_item.items()}


def _repeats(items: Sequence[_Item], method: Method) -> tuple[RepeatEstimate, ...]:
    samples_per_item = max((item.samples for item in items), default=0)
    if samples_per_item < 2:
        return ()
    samples = [
        Samples(tuple((row.answer_key, row.value or 0.0) for row in item.scored), item.row.cluster_id) for item in items
    ]
    return repeat_estimates(samples, samples_per_item, method)
