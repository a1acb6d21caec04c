"""Former scores of evaluations, as they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import NotFound
from tunix_rt.registry.evalsets.tables import EvalSetItemRow
from tunix_rt.registry.evaluations.messages import OUTCOMES, item_result_message, past_score_message
from tunix_rt.registry.evaluations.tables import EvaluationRow, ItemResultRow, PastItemScoreRow, PastScoreRow
from tunix_rt.registry.kernel.filters import FilterField, Kind
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.pages import Key
from tunix_rt.v1 import evaluations_pb2 as pb


def past_scores_of(evaluation: EvaluationRow) -> Listing[pb.ListPastScoresResponse]:
    """The list of the evaluation's former scores, the newest first."""
    return Listing(
        pb.ListPastScoresResponse,
        PastScoreRow,
        partial(past_score_message, evaluation),
        orders={
            "": (
                Key(col(PastScoreRow.replace_time), descending=True),
                Key(col(PastScoreRow.scorer_version), descending=True),
            )
        },
    )


def past_scores(evaluation: EvaluationRow) -> Select[PastScoreRow]:
    """The query for the evaluation's former scores."""
    return select(PastScoreRow).where(col(PastScoreRow.evaluation_id) == evaluation.id)


def items_in_order(session: Session, evaluation: EvaluationRow, scorer_version: str) -> Select[PastItemScoreRow]:
    """The query for what a former scorer version made of each sample, joined to the items, whose ``position`` gives the
    order. Raises `NotFound` where there is no score of that version."""
    if session.get(PastScoreRow, (evaluation.id, scorer_version)) is None:
        raise NotFound(
            f"{evaluation.id} has no score of {scorer_version!r}; the present one is of {evaluation.scorer_version}"
        )
    return (
        select(PastItemScoreRow)
        .join(
            EvalSetItemRow,
            (col(EvalSetItemRow.evalset_id) == evaluation.evalset_id)
            & (col(EvalSetItemRow.item_id) == col(PastItemScoreRow.item_id)),
        )
        .where(
            col(PastItemScoreRow.evaluation_id) == evaluation.id,
            col(PastItemScoreRow.scorer_version) == scorer_version,
        )
    )


def _with_predictions(session: Session, scores: Sequence[PastItemScoreRow]) -> Iterator[pb.ItemResult]:
    """Scores of one evaluation, each with the prediction that it is of."""
    if not scores:
        return
    key = tuple_(col(ItemResultRow.item_id), col(ItemResultRow.sample_index))
    rows = session.scalars(
        select(ItemResultRow).where(
            col(ItemResultRow.evaluation_id) == scores[0].evaluation_id,
            key.in_([(score.item_id, score.sample_index) for score in scores]),
        )
    )
    recorded = {(row.item_id, row.sample_index): row for row in rows}
    for score in scores:
        yield item_result_message(recorded[score.item_id, score.sample_index], score)


PAST_ITEM_RESULTS: Final = Listing(
    pb.ListItemResultsResponse,
    PastItemScoreRow,
    orders={"": (Key(col(EvalSetItemRow.position)), Key(col(PastItemScoreRow.sample_index)))},
    fields={
        "item_id": FilterField(PastItemScoreRow.item_id),
        "outcome": FilterField(PastItemScoreRow.outcome, Kind.ENUM, frozenset(OUTCOMES)),
        "answer_correctness": FilterField(PastItemScoreRow.answer_correctness, Kind.NUMBER),
    },
    encode_all=_with_predictions,
)
