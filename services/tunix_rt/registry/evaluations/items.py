"""Item results: recording what a worker sends, and reading it back as what `quality` computes scores from.

An item's identity is (evaluation, item, sample); the first record stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, func, literal, select, tuple_
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import FieldViolation, InvalidInput, Violations
from tunix_rt.quality.compare import PairInput
from tunix_rt.quality.equality import Rule
from tunix_rt.quality.items import item_from_dict
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scorecard import Scored
from tunix_rt.quality.scorers import PRIMARY_METRIC
from tunix_rt.quality.votes import answer_key
from tunix_rt.registry.evalsets.rules import items_by_id
from tunix_rt.registry.evalsets.tables import EvalSetItemRow
from tunix_rt.registry.evaluations.tables import EvaluationRow, ItemResultRow
from tunix_rt.registry.kernel.commits import notify_on_commit
from tunix_rt.registry.kernel.rows import utc_now


def record_items(session: Session, evaluation: EvaluationRow, results: Sequence[ItemResultRow]) -> int:
    """Store what is new among ``results``; how many that were. The caller holds the evaluation's lock and its lease.

    Raises `InvalidInput` naming every item that the evalset does not hold and every sample beyond the last.
    """
    _check_known(session, evaluation, results)
    pairs = {(result.item_id, result.sample_index) for result in results}
    key = tuple_(col(ItemResultRow.item_id), col(ItemResultRow.sample_index))
    stored = {
        (item_id, sample)
        for item_id, sample in session.execute(
            select(col(ItemResultRow.item_id), col(ItemResultRow.sample_index)).where(
                col(ItemResultRow.evaluation_id) == evaluation.id, key.in_(sorted(pairs))
            )
        )
    }
    fresh: dict[tuple[str, int], ItemResultRow] = {}
    for result in results:
        pair = (result.item_id, result.sample_index)
        if pair not in stored:
            fresh.setdefault(pair, result)
    now = utc_now()
    for result in fresh.values():
        result.evaluation_id, result.epoch, result.create_time = evaluation.id, evaluation.epoch, now
    session.add_all(fresh.values())
    session.flush()
    if fresh:
        evaluation.progress_done = count_recorded(session, evaluation.id)
        session.add(evaluation)
        notify_on_commit(session, evaluation.id)
    return len(fresh)


def count_recorded(session: Session, evaluation_id: str) -> int:
    """How many samples have been recorded."""
    return (
        session.scalar(
            select(func.count()).select_from(ItemResultRow).where(col(ItemResultRow.evaluation_id) == evaluation_id)
        )
        or 0
    )


def all_verified(session: Session, evaluation_id: str) -> bool:
    """Whether the registry's own scoring gives what was recorded, of every sample."""
    unverified = select(literal(1)).where(
        col(ItemResultRow.evaluation_id) == evaluation_id, col(ItemResultRow.verified).is_(False)
    )
    return session.scalar(unverified.limit(1)) is None


def recorded_pairs(session: Session, evaluation_id: str) -> list[tuple[str, int]]:
    """(item id, sample index) of all that has been recorded."""
    rows = session.execute(
        select(col(ItemResultRow.item_id), col(ItemResultRow.sample_index))
        .where(col(ItemResultRow.evaluation_id) == evaluation_id)
        .order_by(col(ItemResultRow.item_id), col(ItemResultRow.sample_index))
    )
    return [(item_id, sample) for item_id, sample in rows]


def results_in_order(evaluation: EvaluationRow) -> Select[ItemResultRow]:
    """The query for an evaluation's results, joined to the items, whose ``position`` gives the order."""
    return (
        select(ItemResultRow)
        .join(
            EvalSetItemRow,
            (col(EvalSetItemRow.evalset_id) == evaluation.evalset_id)
            & (col(EvalSetItemRow.item_id) == col(ItemResultRow.item_id)),
        )
        .where(col(ItemResultRow.evaluation_id) == evaluation.id)
    )


def signed_samples(session: Session, evaluation: EvaluationRow) -> Iterator[dict[str, Any]]:
    """What is signed of every sample, in the order of the evalset."""
    ordered = results_in_order(evaluation).order_by(col(EvalSetItemRow.position), col(ItemResultRow.sample_index))
    for row in session.scalars(ordered):
        yield {
            "item_id": row.item_id,
            "sample_index": row.sample_index,
            "outcome": row.outcome,
            "prediction": row.prediction,
            "extracted_answer": row.extracted_answer,
            "metrics": row.metrics,
        }


def sample_rows(session: Session, evaluation: EvaluationRow) -> list[Scored]:
    """Every recorded sample with the labels of its item, as scorecards take them; in no given order.

    Where an item has several samples, each has the key of its answer, which samples of the same answer share.
    """
    items = items_by_id(session, evaluation.evalset_id)
    several = evaluation.samples_per_item > 1
    rules = {item_id: _rule_of(item) for item_id, item in items.items()} if several else {}
    found = session.execute(
        select(
            col(ItemResultRow.item_id),
            col(ItemResultRow.outcome),
            col(ItemResultRow.answer_correctness),
            col(ItemResultRow.metrics),
            col(ItemResultRow.extracted_answer) if several else literal(""),
        ).where(col(ItemResultRow.evaluation_id) == evaluation.id)
    )
    return [
        Scored(
            item_id=item_id,
            outcome=Outcome(outcome),
            value=value,
            metrics=metrics,
            section=items[item_id].section,
            category=items[item_id].category,
            difficulty=items[item_id].difficulty,
            cluster_id=items[item_id].document.get("cluster_id", ""),
            answer_key=answer_key(rules[item_id], answer) if several else "",
        )
        for item_id, outcome, value, metrics, answer in found
    ]


def _rule_of(row: EvalSetItemRow) -> Rule:
    """How answers to a stored item are compared."""
    violations = Violations(f"item {row.item_id}.")
    item = item_from_dict(row.document, violations)
    if item is None:
        raise InvalidInput(violations.found)
    return item.rule


def values_of(
    session: Session, evaluation: EvaluationRow, items: Mapping[str, EvalSetItemRow], metric: str = PRIMARY_METRIC
) -> list[PairInput]:
    """Every recorded sample's value of ``metric`` with the labels of its item; None where it was not scored by it.

    ``items`` are those of the evaluation's evalset, by id.
    """
    # The primary metric has a column of its own, which spares reading every metric's JSON.
    source: Any = col(ItemResultRow.answer_correctness if metric == PRIMARY_METRIC else ItemResultRow.metrics)
    found = session.execute(
        select(col(ItemResultRow.item_id), col(ItemResultRow.outcome), source).where(
            col(ItemResultRow.evaluation_id) == evaluation.id
        )
    )
    inputs = []
    for item_id, outcome, held in found:
        item = items[item_id]
        value = held if metric == PRIMARY_METRIC else held.get(metric) if outcome == Outcome.SCORED else None
        cluster = item.document.get("cluster_id", "")
        inputs.append(PairInput(item_id, value, item.section, item.category, item.difficulty, cluster))
    return inputs


def primary_values_of(
    session: Session, evaluation_ids: Sequence[str], items: Mapping[str, EvalSetItemRow]
) -> dict[str, list[PairInput]]:
    """As `values_of` the primary metric, of several evaluations of one evalset in one query, by evaluation id."""
    found = session.execute(
        select(
            col(ItemResultRow.evaluation_id), col(ItemResultRow.item_id), col(ItemResultRow.answer_correctness)
        ).where(col(ItemResultRow.evaluation_id).in_(evaluation_ids))
    )
    inputs: dict[str, list[PairInput]] = {evaluation_id: [] for evaluation_id in evaluation_ids}
    clusters = {item_id: item.document.get("cluster_id", "") for item_id, item in items.items()}
    for evaluation_id, item_id, value in found:
        inputs[evaluation_id].append(PairInput(item_id, value, cluster_id=clusters[item_id]))
    return inputs


def first_predictions(
    session: Session, evaluation_ids: Sequence[str], item_ids: Sequence[str]
) -> dict[tuple[str, str], str]:
    """What was answered in the first sample, by evaluation and item."""
    found = session.execute(
        select(col(ItemResultRow.evaluation_id), col(ItemResultRow.item_id), col(ItemResultRow.prediction)).where(
            col(ItemResultRow.evaluation_id).in_(evaluation_ids),
            col(ItemResultRow.sample_index) == 0,
            col(ItemResultRow.item_id).in_(item_ids),
        )
    )
    return {(evaluation_id, item_id): prediction for evaluation_id, item_id, prediction in found}


def _check_known(session: Session, evaluation: EvaluationRow, results: Sequence[ItemResultRow]) -> None:
    known = set(
        session.scalars(
            select(col(EvalSetItemRow.item_id)).where(
                col(EvalSetItemRow.evalset_id) == evaluation.evalset_id,
                col(EvalSetItemRow.item_id).in_({result.item_id for result in results}),
            )
        )
    )
    found = []
    for index, result in enumerate(results):
        if result.item_id not in known:
            description = f"evalset {evaluation.evalset_id} has no item {result.item_id!r}"
            found.append(FieldViolation(f"results[{index}].item_id", description))
        if result.sample_index >= evaluation.samples_per_item:
            description = f"the evaluation has {evaluation.samples_per_item} sample(s) per item, numbered from 0"
            found.append(FieldViolation(f"results[{index}].sample_index", description))
    if found:
        raise InvalidInput(found)
