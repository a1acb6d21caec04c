"""Comparison of one or several evaluations with a baseline, item by item: what changed, and is it more than chance.

The statistics are `quality.compare`; here they are given stored scores, and the items are paged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlalchemy.orm import Session

from tunix_rt.errors import FailedPrecondition
from tunix_rt.quality.compare import ItemChange, ItemDiff, PairedComparison, SliceComparison, compare_many
from tunix_rt.quality.identity import ScoreIdentity, mismatches
from tunix_rt.registry.evalsets.rules import items_by_id
from tunix_rt.registry.evalsets.tables import EvalSetItemRow
from tunix_rt.registry.evaluations.items import first_predictions, values_of
from tunix_rt.registry.evaluations.messages import scorecard_message, statistics_document
from tunix_rt.registry.evaluations.rescore import is_current
from tunix_rt.registry.evaluations.rules import get_evaluation
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel.pages import check_page_size, context_digest, make_token, read_token
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.models.messages import statistics_message
from tunix_rt.registry.runs.curves import Curve, training_curves
from tunix_rt.v1 import evaluations_pb2 as pb

BY_DIFFERENCE: Final = "difference"
BY_INDEX: Final = "index"
# What differs comes first, then what has no pair; of differences that are alike, the regression.
_ORDER_OF_CHANGES: Final = {
    ItemChange.REGRESSION: (0, 0),
    ItemChange.FIX: (0, 1),
    ItemChange.UNPAIRED: (1, 0),
    ItemChange.SAME: (2, 0),
}

_CHANGES: Final = {
    ItemChange.REGRESSION: pb.ITEM_CHANGE_REGRESSION,
    ItemChange.FIX: pb.ITEM_CHANGE_FIX,
    ItemChange.SAME: pb.ITEM_CHANGE_SAME,
    ItemChange.UNPAIRED: pb.ITEM_CHANGE_UNPAIRED,
}

# Group, difference, kind of change, position.
_SortKey: TypeAlias = tuple[int, float, int, int]


@dataclass(frozen=True)
class ComparedItem:
    """One item everywhere; ``scores`` and ``predictions`` (of the first sample) are in the order of the candidates."""

    item: EvalSetItemRow
    scores: list[ItemDiff]
    baseline_prediction: str
    predictions: list[str]


@dataclass(frozen=True)
class Comparison:
    """Every candidate's statistics over all items, and one page of the items."""

    baseline: EvaluationRow
    candidates: list[tuple[EvaluationRow, PairedComparison]]
    items: list[ComparedItem]
    next_page_token: str
    curves: list[Curve]


def compare_evaluations(session: Session, request: pb.CompareEvaluationsRequest) -> Comparison:
    """Every candidate against the baseline. Raises `NotFound`, `FailedPrecondition` and `InvalidInput`."""
    size = check_page_size(request.page_size)
    order_by = request.order_by or BY_DIFFERENCE
    baseline = get_evaluation(session, request.baseline_evaluation_id)
    rows = [get_evaluation(session, each) for each in request.candidate_evaluation_ids]
    for row in rows:
        check_comparable(baseline, row)
    items = items_by_id(session, baseline.evalset_id)
    found = compare_many(values_of(session, baseline, items), [values_of(session, row, items) for row in rows])
    ordered = sorted(_keyed(found, items, order_by, request.only_changed), key=lambda keyed: keyed[0])
    ids = [baseline.id, *(row.id for row in rows)]
    bound_to = context_digest("comparison", *ids, request.only_changed, order_by)
    if request.page_token:
        last = tuple(read_token(request.page_token, 4, bound_to))
        ordered = [keyed for keyed in ordered if keyed[0] > last]
    return Comparison(
        baseline=baseline,
        candidates=list(zip(rows, found, strict=True)),
        items=_with_predictions(session, ids, [scores for _, scores in ordered[:size]], items),
        next_page_token=make_token(ordered[size - 1][0], bound_to) if len(ordered) > size else "",
        curves=training_curves(session, [row.run_id for row in (baseline, *rows)]) if request.include_curves else [],
    )


def _keyed(
    found: Sequence[PairedComparison], items: Mapping[str, EvalSetItemRow], order_by: str, only_changed: bool
) -> Iterator[tuple[_SortKey, list[ItemDiff]]]:
    """Each item's scores by candidate, with the sort key of its largest difference."""
    by_candidate = [{each.item_id: each for each in comparison.items} for comparison in found]
    for item_id in by_candidate[0]:
        scores = [by_id[item_id] for by_id in by_candidate]
        if only_changed and all(each.change is ItemChange.SAME for each in scores):
            continue
        position = items[item_id].position
        yield min(difference_key(order_by, each, position) for each in scores), scores


def difference_key(order_by: str, scores: ItemDiff, position: int) -> _SortKey:
    """Sort key of an item: the largest difference first, or the evalset's order."""
    if order_by == BY_INDEX:
        return 0, 0.0, 0, position
    group, kind = _ORDER_OF_CHANGES[scores.change]
    return group, -abs(difference_of(scores)), kind, position


def difference_of(scores: ItemDiff) -> float:
    """B − A; 0 where one of them has no score."""
    if scores.baseline_score is None or scores.candidate_score is None:
        return 0.0
    return scores.candidate_score - scores.baseline_score


def _with_predictions(
    session: Session, ids: Sequence[str], page: Sequence[list[ItemDiff]], items: Mapping[str, EvalSetItemRow]
) -> list[ComparedItem]:
    answers = first_predictions(session, ids, [scores[0].item_id for scores in page])
    compared = []
    for scores in page:
        item = items[scores[0].item_id]
        baseline, *predictions = (answers.get((each, item.item_id), "") for each in ids)
        compared.append(ComparedItem(item, scores, baseline, predictions))
    return compared


def score_identity(evaluation: EvaluationRow) -> ScoreIdentity:
    """What the evaluation is a score of."""
    return ScoreIdentity(**evaluation.identity)


def check_comparable(baseline: EvaluationRow, candidate: EvaluationRow) -> None:
    """Raise `FailedPrecondition` unless both SUCCEEDED under one score identity; names every digest that differs."""
    for row in (baseline, candidate):
        if row.state != JobState.SUCCEEDED:
            raise FailedPrecondition(f"{row.id} is {row.state}: only evaluations that have SUCCEEDED are compared")
    check_versions(baseline, candidate)
    ours, theirs = baseline.identity, candidate.identity
    differing = [
        f"{name} is {ours[name]} in the baseline and {theirs[name]} in the candidate"
        for name in mismatches(score_identity(baseline), score_identity(candidate))
    ]
    if differing:
        raise FailedPrecondition(f"{baseline.id} and {candidate.id} are not comparable: {'; '.join(differing)}")


def check_versions(baseline: EvaluationRow, candidate: EvaluationRow) -> None:
    """Raise `FailedPrecondition`, with what to do about it, unless both scores are of one scorer version."""
    if baseline.scorer_version == candidate.scorer_version:
        return
    older = [row.id for row in (baseline, candidate) if not is_current(row)] or [baseline.id, candidate.id]
    raise FailedPrecondition(
        f"the baseline {baseline.id} is scored by {baseline.scorer_version} and the candidate {candidate.id} by "
        f"{candidate.scorer_version}, and scores of different scorer versions are never compared: score the stored "
        f"predictions again with `tunix-rt evaluations rescore {' '.join(older)}`"
    )


def comparison_message(compared: Comparison) -> pb.Comparison:
    """One page of a comparison, with every candidate's statistics over all of it."""
    return pb.Comparison(
        baseline_evaluation_id=compared.baseline.id,
        baseline_scorecard=scorecard_message(compared.baseline.scorecard or {}),
        candidates=[_candidate_message(row, found) for row, found in compared.candidates],
        items=map(_item_message, compared.items),
        next_page_token=compared.next_page_token,
        curves=map(_curve_message, compared.curves),
        scorer_version=compared.baseline.scorer_version,
    )


def _slice_message(found: SliceComparison) -> pb.SliceComparison:
    return pb.SliceComparison(
        dimension=found.dimension,
        value=found.value,
        n_paired=found.n_paired,
        delta=found.delta,
        p_value=found.p_value,
        p_adjusted=found.p_adjusted,
    )


def _curve_message(curve: Curve) -> pb.Curve:
    return pb.Curve(run_id=curve.run_id, metric=curve.metric, steps=curve.steps, values=curve.values)


def _candidate_message(row: EvaluationRow, found: PairedComparison) -> pb.CandidateComparison:
    return pb.CandidateComparison(
        evaluation_id=row.id,
        statistics=statistics_message(statistics_document(found)),
        p_adjusted=found.p_adjusted,
        scorecard=scorecard_message(row.scorecard or {}),
        slices=map(_slice_message, found.slices),
    )


def _item_message(compared: ComparedItem) -> pb.ItemComparison:
    return pb.ItemComparison(
        item_id=compared.item.item_id,
        section=compared.item.section,
        category=compared.item.category,
        expected_answer=compared.item.document["expected_answer"],
        baseline_score=compared.scores[0].baseline_score,
        baseline_prediction=compared.baseline_prediction,
        candidates=[
            pb.CandidateItem(score=scores.candidate_score, change=_CHANGES[scores.change], prediction=prediction)
            for scores, prediction in zip(compared.scores, compared.predictions, strict=True)
        ],
    )
