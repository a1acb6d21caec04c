"""How an evaluation succeeds: the scorecard that the registry computes, and what follows from it.

The score comes from the stored rows alone, never from the worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from tunix_rt.errors import FailedPrecondition
from tunix_rt.quality.scorecard import scorecard
from tunix_rt.registry.evalsets.tables import EvalSetRow
from tunix_rt.registry.evaluations.items import count_recorded, sample_rows
from tunix_rt.registry.evaluations.score_values import store_values
from tunix_rt.registry.evaluations.scorecards import scorecard_document
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.gates.rules import decide_for_run
from tunix_rt.registry.kernel import job_kinds as jobs
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.states import JobState, transition
from tunix_rt.registry.models.rules import pin_digest
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.sweeps import progress as sweep_progress


@dataclass(frozen=True)
class Result:
    """What an evaluator used: the model's digest as it was loaded, and the scorers' version."""

    model_digest: str
    scorer_version: str


def succeed(session: Session, row: EvaluationRow, result: Result, end: leases.End) -> None:
    """Compute the scorecard and end the evaluation; sweep and gate follow. The caller holds the lease.

    Raises `FailedPrecondition` when samples are missing, or another model or scorer than the registered one was used.
    """
    _check_complete(session, row)
    if result.scorer_version != row.scorer_version:
        raise FailedPrecondition(
            f"{row.id} is to be scored by scorer {row.scorer_version}, but the worker used "
            f"{result.scorer_version}: evaluator and registry must run the same release"
        )
    model = session.get_one(ModelVersionRow, row.model_id, with_for_update=True, populate_existing=True)
    pin_digest(session, model, result.model_digest)
    row.model_digest = result.model_digest
    _write_scorecard(session, row)
    leases.end_attempt(session, row, "succeeded", message=end.message)
    transition(session, row, JobState.SUCCEEDED, message=end.message, actor=row.worker_id, attempt=row.epoch)


@jobs.job_ended.register
def _carry_on(job: EvaluationRow, session: Session) -> None:
    sweep_progress.evaluation_completed(session, job)
    if job.state == JobState.SUCCEEDED:
        decide_for_run(session, job)


def _check_complete(session: Session, row: EvaluationRow) -> None:
    evalset = session.get_one(EvalSetRow, row.evalset_id)
    wanted = evalset.item_count * row.samples_per_item
    missing = wanted - count_recorded(session, row.id)
    if missing:
        raise FailedPrecondition(
            f"{row.id} cannot be SUCCEEDED: {missing} of {wanted} samples ({evalset.item_count} items × "
            f"{row.samples_per_item}) are not recorded"
        )


def _write_scorecard(session: Session, row: EvaluationRow) -> None:
    card = scorecard(sample_rows(session, row), row.threshold)
    document: dict[str, Any] = scorecard_document(card)
    row.scorecard = document
    row.primary_score = document["primary_score"]
    row.ci_low = document["ci_low"]
    row.ci_high = document["ci_high"]
    row.coverage = document["coverage"]
    row.n_scored = document["n_scored"]
    row.metric_means = document["metric_means"]
    row.verdict = document["verdict"]
    session.add(row)
    store_values(session, row)
