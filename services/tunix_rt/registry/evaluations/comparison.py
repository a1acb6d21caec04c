"""Comparison of two evaluations, item by item: what changed, and whether that is more than chance.

The statistics are `quality.compare`; here they are fed with stored scores, and the diffs are paged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.errors import FailedPrecondition
from tunix_rt.quality.compare import ItemChange, ItemDiff, PairedComparison, compare
from tunix_rt.quality.identity import ScoreIdentity, mismatches
from tunix_rt.registry.evalsets.rules import items_by_id
from tunix_rt.registry.evalsets.tables import EvalSetItemRow
from tunix_rt.registry.evaluations.items import first_predictions, values_of
from tunix_rt.registry.evaluations.rules import get_evaluation
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel.pages import check_page_size, context_digest, make_token, read_token
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.runs.curves import Curve, training_curves

BY_DIFFERENCE: Final = "difference"
BY_INDEX: Final = "index"
# What differs comes first, then what has no pair; of differences that are alike, the regression.
_CHANGES: Final = {
    ItemChange.REGRESSION: (0, 0),
    ItemChange.FIX: (0, 1),
    ItemChange.UNPAIRED: (1, 0),
    ItemChange.SAME: (2, 0),
}


@dataclass(frozen=True)
class Asked:
    """What is compared, and which page of it is wanted; ``order_by`` is BY_DIFFERENCE or BY_INDEX."""

    baseline_id: str
    candidate_id: str
    only_changed: bool = False
    order_by: str = BY_DIFFERENCE
    include_curves: bool = False
    page_size: int = 0
    page_token: str = ""


@dataclass(frozen=True)
class Diff:
    """One item in both evaluations; predictions are those of the first sample."""

    item: EvalSetItemRow
    scores: ItemDiff
    baseline_prediction: str
    candidate_prediction: str


@dataclass(frozen=True)
class Compared:
    """Statistics and slices over all items, and one page of the diffs."""

    baseline: EvaluationRow
    candidate: EvaluationRow
    statistics: PairedComparison
    diffs: list[Diff]
    next_page_token: str
    curves: list[Curve]


def compare_evaluations(session: Session, asked: Asked) -> Compared:
    """B (the candidate) against A (the baseline). Raises `NotFound`, `FailedPrecondition` and `InvalidInput`."""
    size = check_page_size(asked.page_size)
    baseline, candidate = get_evaluation(session, asked.baseline_id), get_evaluation(session, asked.candidate_id)
    check_comparable(baseline, candidate)
    items = items_by_id(session, baseline.evalset_id)
    statistics = compare(values_of(session, baseline, items), values_of(session, candidate, items))
    places = sorted(
        (
            (difference_key(asked.order_by, each, items[each.item_id].position), each)
            for each in statistics.items
            if not (asked.only_changed and each.change is ItemChange.SAME)
        ),
        key=lambda place: place[0],
    )
    bound_to = context_digest("comparison", baseline.id, candidate.id, asked.only_changed, asked.order_by)
    if asked.page_token:
        last = tuple(read_token(asked.page_token, 4, bound_to))
        places = [place for place in places if place[0] > last]
    shown = [each for _, each in places[:size]]
    return Compared(
        baseline=baseline,
        candidate=candidate,
        statistics=statistics,
        diffs=_with_predictions(session, baseline.id, candidate.id, shown, items),
        next_page_token=make_token(places[size - 1][0], bound_to) if len(places) > size else "",
        curves=training_curves(session, [baseline.run_id, candidate.run_id]) if asked.include_curves else [],
    )


def difference_key(order_by: str, scores: ItemDiff, position: int) -> tuple[int, float, int, int]:
    """Where an item stands: the largest difference first, or the evalset's order."""
    if order_by == BY_INDEX:
        return 0, 0.0, 0, position
    group, kind = _CHANGES[scores.change]
    return group, -abs(difference_of(scores)), kind, position


def difference_of(scores: ItemDiff) -> float:
    """B − A; 0 where one of them has no score."""
    if scores.baseline_score is None or scores.candidate_score is None:
        return 0.0
    return scores.candidate_score - scores.baseline_score


def _with_predictions(
    session: Session, baseline_id: str, candidate_id: str, shown: list[ItemDiff], items: dict[str, EvalSetItemRow]
) -> list[Diff]:
    answers = first_predictions(session, [baseline_id, candidate_id], [each.item_id for each in shown])
    return [
        Diff(
            item=items[each.item_id],
            scores=each,
            baseline_prediction=answers.get((baseline_id, each.item_id), ""),
            candidate_prediction=answers.get((candidate_id, each.item_id), ""),
        )
        for each in shown
    ]


def score_identity(evaluation: EvaluationRow) -> ScoreIdentity:
    """What the evaluation is a score of."""
    return ScoreIdentity(**evaluation.identity)


def check_comparable(baseline: EvaluationRow, candidate: EvaluationRow) -> None:
    """Raise `FailedPrecondition` unless both SUCCEEDED under one score identity; names every digest that differs."""
    for row in (baseline, candidate):
        if row.state != JobState.SUCCEEDED:
            raise FailedPrecondition(f"{row.id} is {row.state}: only evaluations that have SUCCEEDED are compared")
    ours, theirs = baseline.identity, candidate.identity
    differing = [
        f"{name} is {ours[name]} in the baseline and {theirs[name]} in the candidate"
        for name in mismatches(score_identity(baseline), score_identity(candidate))
    ]
    if differing:
        raise FailedPrecondition(f"{baseline.id} and {candidate.id} are not comparable: {'; '.join(differing)}")
