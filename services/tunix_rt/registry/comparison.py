"""Comparison of two evaluations, item by item: what changed, and whether that is more than chance.

The statistics are `quality.compare`; here they are fed with stored scores, and the diffs are paged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.errors import FailedPrecondition
from tunix_rt.quality.compare import ItemChange, ItemDiff, PairedComparison, PairInput, compare
from tunix_rt.quality.identity import ScoreIdentity, mismatches
from tunix_rt.registry.evalsets import items_of
from tunix_rt.registry.evaluations import get_evaluation
from tunix_rt.registry.items import first_predictions, sample_rows
from tunix_rt.registry.pages import check_page_size, context_digest, make_token, read_token
from tunix_rt.registry.states import JobState
from tunix_rt.registry.tables.evalsets import EvalSetItemRow
from tunix_rt.registry.tables.evaluations import EvaluationRow

# What is looked at first comes first.
_ORDER: Final = {ItemChange.REGRESSION: 0, ItemChange.FIX: 1, ItemChange.UNPAIRED: 2, ItemChange.SAME: 3}


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


def compare_evaluations(
    session: Session, *, baseline_id: str, candidate_id: str, only_changed: bool, page_size: int, page_token: str
) -> Compared:
    """B (the candidate) against A (the baseline), regressions first. Raises `NotFound` and `FailedPrecondition`."""
    size = check_page_size(page_size)
    baseline, candidate = get_evaluation(session, baseline_id), get_evaluation(session, candidate_id)
    check_comparable(baseline, candidate)
    statistics = compare(pair_inputs(session, baseline), pair_inputs(session, candidate))
    items = {item.item_id: item for item in items_of(session, baseline.evalset_id)}
    places = sorted(
        (
            (_ORDER[each.change], items[each.item_id].position, each)
            for each in statistics.items
            if not (only_changed and each.change is ItemChange.SAME)
        ),
        key=lambda place: place[:2],
    )
    bound_to = context_digest("comparison", baseline.id, candidate.id, only_changed)
    if page_token:
        last = tuple(read_token(page_token, 2, bound_to))
        places = [place for place in places if place[:2] > last]
    shown, more = places[:size], len(places) > size
    ids = [each.item_id for _, _, each in shown]
    before = first_predictions(session, baseline.id, ids)
    after = first_predictions(session, candidate.id, ids)
    return Compared(
        baseline=baseline,
        candidate=candidate,
        statistics=statistics,
        diffs=[
            Diff(items[each.item_id], each, before.get(each.item_id, ""), after.get(each.item_id, ""))
            for _, _, each in shown
        ],
        next_page_token=make_token(shown[-1][:2], bound_to) if more else "",
    )


def pair_inputs(session: Session, evaluation: EvaluationRow) -> list[PairInput]:
    """Every recorded sample as comparisons take it; samples of one item are averaged there."""
    return [
        PairInput(row.item_id, row.value, row.section, row.category, row.difficulty, row.cluster_id)
        for row in sample_rows(session, evaluation)
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
