"""Scores made again: the stored predictions of an evaluation, by the scorers of this release.

The former score stays, with what it gave every item, and can be read by its version. Scoring itself is
`quality.rescoring`, outside of any transaction; one transaction then puts the new score in the place of the former.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, delete, literal, select, tuple_, update
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import Aborted, FailedPrecondition
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.rescoring import Sample, Score
from tunix_rt.quality.scorers import BUILT_IN_VERSION, PRIMARY_METRIC
from tunix_rt.registry.evalsets.tables import EvalSetItemRow
from tunix_rt.registry.evaluations.items import count_recorded
from tunix_rt.registry.evaluations.rules import get_evaluation, write_score
from tunix_rt.registry.evaluations.tables import (
    EvaluationRow,
    ItemResultRow,
    PastItemScoreRow,
    PastScoreRow,
    ScoreValueRow,
)
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.commits import notify_on_commit
from tunix_rt.registry.kernel.outbox import emit_fact
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.models.tables import ModelVersionRow

# Samples that are read and scored together; a prediction has up to a million characters.
BATCH: Final = 64
_KEY: Final = ("evaluation_id", "item_id", "sample_index")
_SCORE: Final = ("outcome", "extracted_answer", "metrics", "answer_correctness", "message", "verified")
# One statement for many rows.
_UPDATE: Final = (
    update(ItemResultRow)
    .where(*(getattr(ItemResultRow, name) == bindparam(f"given_{name}") for name in _KEY))
    .values({name: bindparam(f"given_{name}") for name in _SCORE})
)


@dataclass(frozen=True)
class Rescoring:
    """An evaluation whose ``total`` samples are to be scored again, and the version that its score is of now."""

    evaluation_id: str
    evalset_id: str
    scorer_version: str
    total: int


@dataclass(frozen=True)
class Recorded:
    """A recorded sample with the document of its item; ``score`` are the columns of what was made of it."""

    item_id: str
    sample_index: int
    document: Mapping[str, Any]
    prediction: str
    score: Mapping[str, Any]
    finish_reason: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Its place: batches are in this order."""
        return self.item_id, self.sample_index

    @property
    def is_scorable(self) -> bool:
        """Whether there is something to score: nothing is where infrastructure failed."""
        return self.score["outcome"] != Outcome.ERRORED or bool(self.prediction)


def is_current(row: EvaluationRow) -> bool:
    """Whether the score is by the built-in scorers of this release."""
    return row.scorer_version.partition("+")[0] == BUILT_IN_VERSION


def begin(session: Session, evaluation_id: str) -> Rescoring | None:
    """What there is to score again; None where the score is of this release's version.

    Raises `NotFound`, and `FailedPrecondition` for an evaluation without a score and for one by third-party scorers.
    """
    row = get_evaluation(session, evaluation_id)
    if row.state != JobState.SUCCEEDED:
        raise FailedPrecondition(f"{row.id} is {row.state}: only evaluations that have SUCCEEDED are scored again")
    if is_current(row):
        return None
    if "+" in row.scorer_version:
        raise FailedPrecondition(
            f"{row.id} was scored by {row.scorer_version}, which has third-party scorers, and the registry runs no "
            "code of others: evaluate the model again"
        )
    return Rescoring(row.id, row.evalset_id, row.scorer_version, count_recorded(session, row.id))


def batch_after(session: Session, rescoring: Rescoring, after: tuple[str, int] | None) -> list[Recorded]:
    """The next samples, in the order of their keys."""
    key = tuple_(col(ItemResultRow.item_id), col(ItemResultRow.sample_index))
    found = (
        select(ItemResultRow, col(EvalSetItemRow.document))
        .join(
            EvalSetItemRow,
            (col(EvalSetItemRow.evalset_id) == rescoring.evalset_id)
            & (col(EvalSetItemRow.item_id) == col(ItemResultRow.item_id)),
        )
        .where(col(ItemResultRow.evaluation_id) == rescoring.evaluation_id)
        .order_by(col(ItemResultRow.item_id), col(ItemResultRow.sample_index))
        .limit(BATCH)
    )
    if after is not None:
        found = found.where(key > after)
    return [
        Recorded(
            row.item_id,
            row.sample_index,
            document,
            row.prediction,
            {name: getattr(row, name) for name in _SCORE},
            row.finish_reason,
        )
        for row, document in session.execute(found)
    ]


def samples_of(batch: Sequence[Recorded]) -> list[Sample]:
    """What of a batch is scored."""
    return [Sample(each.document, each.prediction, each.finish_reason) for each in batch if each.is_scorable]


def changes(batch: Sequence[Recorded], scores: Sequence[Score]) -> Iterator[dict[str, Any]]:
    """The columns of every sample that gets another score, with its key. ``scores`` are those of `samples_of`.

    Raises `FailedPrecondition` for an item that this release cannot score.
    """
    given = iter(scores)
    for each in batch:
        if not each.is_scorable:
            continue
        found = _columns(each, next(given))
        if found != each.score:
            yield {"item_id": each.item_id, "sample_index": each.sample_index, **found}


def _columns(recorded: Recorded, score: Score) -> dict[str, Any]:
    place = f"item {recorded.item_id}" + (f" sample {recorded.sample_index}" if recorded.sample_index else "")
    if score.unavailable:
        raise FailedPrecondition(
            f"{place} cannot be scored here: this release does not take the item, or math-verify is not installed"
        )
    if score.problem:
        raise FailedPrecondition(f"{place} cannot be scored here: scoring the prediction {score.problem}")
    scored = score.outcome == Outcome.SCORED
    return {
        "outcome": score.outcome,
        "extracted_answer": score.extracted_answer,
        "metrics": score.metrics,
        "answer_correctness": score.metrics.get(PRIMARY_METRIC) if scored else None,
        "message": score.message,
        "verified": True,
    }


def put_in_place(
    session: Session, rescoring: Rescoring, changed: Sequence[Mapping[str, Any]], *, actor: str
) -> EvaluationRow:
    """Give the evaluation its new score and keep the former one. An evaluation that has a score of this version by now
    stays as it is. Raises `NotFound`, and `Aborted` where it has another score than `begin` has seen."""
    row = leases.lock_job(session, EvaluationRow, rescoring.evaluation_id)
    if is_current(row):
        return row
    if row.scorer_version != rescoring.scorer_version:
        raise Aborted(f"{row.id} has another score by now, of {row.scorer_version}: ask again")
    assert row.end_time is not None
    now = utc_now()
    _keep(session, row, actor=actor)
    if changed:
        session.connection().execute(_UPDATE, [_given({"evaluation_id": row.id, **each}) for each in changed])
    # What was not scored has nothing to score.
    own = col(ItemResultRow.evaluation_id) == row.id
    unverified = update(ItemResultRow).where(own, col(ItemResultRow.verified).is_(False)).values(verified=True)
    session.execute(unverified.execution_options(synchronize_session=False))
    session.execute(delete(ScoreValueRow).where(col(ScoreValueRow.evaluation_id) == row.id))
    row.scorer_version = BUILT_IN_VERSION
    row.score_time = now
    model = session.get_one(ModelVersionRow, row.model_id)
    # Whether an inferencer has confirmed the digest of a reference is known from the former score alone.
    row.verified = row.verified or model.format != "reference"
    write_score(session, row, row.end_time)
    row.revision += 1
    session.add(row)
    session.flush()
    notify_on_commit(session, row.id)
    emit_fact(session, row, "rescored")
    return row


def _given(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {f"given_{name}": value for name, value in columns.items()}


def _keep(session: Session, row: EvaluationRow, *, actor: str) -> None:
    """The score as it is becomes history, unless one of that version is there: a version scores alike every time."""
    if session.get(PastScoreRow, (row.id, row.scorer_version)) is not None:
        return
    assert row.scorecard is not None
    assert row.end_time is not None
    session.add(
        PastScoreRow(
            evaluation_id=row.id,
            scorer_version=row.scorer_version,
            scorecard=row.scorecard,
            verified=row.verified,
            signature=row.signature,
            signing_key_id=row.signing_key_id,
            score_time=row.score_time or row.end_time,
            replace_time=utc_now(),
            replaced_by=actor,
        )
    )
    kept = [getattr(ItemResultRow, name) for name in (*_KEY[1:], *_SCORE)]
    names = ("evaluation_id", "scorer_version", *_KEY[1:], *_SCORE)
    found = select(literal(row.id), literal(row.scorer_version), *kept).where(
        col(ItemResultRow.evaluation_id) == row.id
    )
    session.execute(PastItemScoreRow.__table__.insert().from_select(names, found))  # type: ignore[attr-defined]
