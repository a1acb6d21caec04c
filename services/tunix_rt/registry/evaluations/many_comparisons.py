"""Several candidates against one baseline on the same items: which of them differ, with the chances of many looks paid.

Two evaluations alone are `comparison`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from tunix_rt.quality.compare import ItemChange, ItemDiff, PairedComparison, compare_many
from tunix_rt.registry.evalsets.rules import items_by_id
from tunix_rt.registry.evalsets.tables import EvalSetItemRow
from tunix_rt.registry.evaluations.comparison import BY_DIFFERENCE, check_comparable, difference_key
from tunix_rt.registry.evaluations.items import first_predictions, values_of
from tunix_rt.registry.evaluations.rules import get_evaluation
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel.pages import check_page_size, context_digest, make_token, read_token


@dataclass(frozen=True)
class Candidate:
    """One candidate against the baseline; the p-value is also corrected for the number of candidates."""

    evaluation: EvaluationRow
    statistics: PairedComparison


@dataclass(frozen=True)
class ManyDiff:
    """One item everywhere; ``scores`` and ``predictions`` are in the order of the candidates."""

    item: EvalSetItemRow
    scores: list[ItemDiff]
    baseline_prediction: str
    predictions: list[str]


@dataclass(frozen=True)
class ManyCompared:
    """Every candidate's statistics over all items, and one page of the diffs."""

    baseline: EvaluationRow
    candidates: list[Candidate]
    diffs: list[ManyDiff]
    next_page_token: str


def compare_many_evaluations(
    session: Session,
    *,
    baseline_id: str,
    candidate_ids: Sequence[str],
    only_changed: bool,
    page_size: int,
    page_token: str,
) -> ManyCompared:
    """Every candidate against the baseline. Raises `NotFound`, `FailedPrecondition` and `InvalidInput`."""
    size = check_page_size(page_size)
    baseline = get_evaluation(session, baseline_id)
    rows = [get_evaluation(session, each) for each in candidate_ids]
    for row in rows:
        check_comparable(baseline, row)
    items = items_by_id(session, baseline.evalset_id)
    found = compare_many(values_of(session, baseline, items), [values_of(session, row, items) for row in rows])
    places = sorted(_places(found, items, only_changed), key=lambda place: place[0])
    bound_to = context_digest("many comparisons", baseline.id, *(row.id for row in rows), only_changed)
    if page_token:
        last = tuple(read_token(page_token, 4, bound_to))
        places = [place for place in places if place[0] > last]
    answers = first_predictions(
        session, [baseline.id, *(row.id for row in rows)], [scores[0].item_id for _, scores in places[:size]]
    )
    return ManyCompared(
        baseline=baseline,
        candidates=[Candidate(*each) for each in zip(rows, found, strict=True)],
        diffs=[
            ManyDiff(
                item=items[scores[0].item_id],
                scores=scores,
                baseline_prediction=answers.get((baseline.id, scores[0].item_id), ""),
                predictions=[answers.get((row.id, scores[0].item_id), "") for row in rows],
            )
            for _, scores in places[:size]
        ],
        next_page_token=make_token(places[size - 1][0], bound_to) if len(places) > size else "",
    )


def _places(
    found: Sequence[PairedComparison], items: dict[str, EvalSetItemRow], only_changed: bool
) -> list[tuple[tuple[int, float, int, int], list[ItemDiff]]]:
    """Where each item stands, which is where its largest difference puts it; with its scores by candidate."""
    by_candidate = [{each.item_id: each for each in comparison.items} for comparison in found]
    places = []
    for item_id in by_candidate[0]:
        scores = [by_id[item_id] for by_id in by_candidate]
        if only_changed and all(each.change is ItemChange.SAME for each in scores):
            continue
        position = items[item_id].position
        places.append((min(difference_key(BY_DIFFERENCE, each, position) for each in scores), scores))
    return places
