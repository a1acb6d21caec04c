"""Evaluations as jobs: creating, finding, cancelling and completing them.

The score comes from the stored item results alone, never from the worker; how they are judged is decided in `quality`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.contract.generation import PROMPT_VERSION, complete_generation
from tunix_rt.contract.messages import generation_fields
from tunix_rt.contract.scores import DEFAULT_THRESHOLD
from tunix_rt.contract.statements import evaluation_statement, predictions_digest
from tunix_rt.errors import FailedPrecondition, NotFound
from tunix_rt.quality.identity import generation_digest
from tunix_rt.quality.scorecard import scorecard
from tunix_rt.quality.scorer_plugins import installed_scorers
from tunix_rt.registry.evalsets.rules import get_evalset
from tunix_rt.registry.evalsets.tables import EvalSetRow
from tunix_rt.registry.evaluations.items import all_verified, count_recorded, sample_rows, signed_samples
from tunix_rt.registry.evaluations.messages import scorecard_document
from tunix_rt.registry.evaluations.score_values import store_values
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.messages import time_text
from tunix_rt.registry.kernel.outbox import emit_command
from tunix_rt.registry.kernel.projects import own_project
from tunix_rt.registry.kernel.rows import check_etag, new_id, utc_now
from tunix_rt.registry.kernel.signing import sign
from tunix_rt.registry.kernel.states import JobState, Reason, record_creation, transition
from tunix_rt.registry.models.rules import find_or_register, find_registered, pin_digest
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.runs.tables import RunRow, config_of, run_spec


@dataclass(frozen=True)
class EvaluationSpec:
    """What to evaluate on what: ``model`` an id, a name or a reference; ``generation`` with every field set."""

    model: str
    evalset: str
    generation: dict[str, Any]
    threshold: float
    samples_per_item: int
    tags: dict[str, str]
    queue_deadline_seconds: int = 0


@dataclass(frozen=True)
class Result:
    """What an evaluator used: the model's digest as it was loaded, and the scorers' version.

    ``loaded_digest`` is the digest of a reference as the inferencer itself says, "" if it cannot load it; None where
    nobody was asked.
    """

    model_digest: str
    scorer_version: str
    loaded_digest: str | None = None


def create_evaluation(session: Session, spec: EvaluationSpec, *, actor: str) -> EvaluationRow:
    """A QUEUED evaluation with its command. Raises `NotFound` for a model or evalset that does not exist."""
    evalset = get_evalset(session, spec.evalset)
    model = find_or_register(session, spec.model, actor=actor)
    return _queue(session, _draft(spec, model, evalset, actor=actor, run=_run_of(session, model)))


def check_evaluation(session: Session, spec: EvaluationSpec, *, actor: str) -> EvaluationRow:
    """The evaluation that `create_evaluation` would make, without id and not stored; nothing is registered."""
    evalset = get_evalset(session, spec.evalset)
    model = find_registered(session, spec.model)
    row = _draft(spec, model, evalset, actor=actor, run=_run_of(session, model))
    row.id, row.project = "", own_project(session)
    return row


def create_for_run(session: Session, run: RunRow) -> list[str]:
    """The ids of the evaluations that a succeeded run asked for, created in its transaction, in the order of its spec.

    ``run.model_id`` is the model version that the run has just registered.
    """
    if run.model_id is None:
        raise ValueError(f"{run.id} has no model to evaluate")
    model = session.get_one(ModelVersionRow, run.model_id)
    created = []
    for asked in run_spec(run).evaluate_on:
        # Not checked again: what a stored spec asks for must not keep a trained run from its end.
        # It is generated now, whatever the version was when the run was created.
        asked_now = generation_fields(asked.generation) | {"prompt_version": PROMPT_VERSION}
        generation = complete_generation(asked_now)
        spec = EvaluationSpec(
            model=model.id,
            evalset=asked.evalset,
            generation=generation,
            threshold=asked.threshold if asked.HasField("threshold") else DEFAULT_THRESHOLD,
            samples_per_item=1,
            tags=dict(run.tags),
        )
        row = _draft(spec, model, get_evalset(session, asked.evalset), actor=run.created_by, run=run)
        created.append(_queue(session, row).id)
    return created


def get_evaluation(session: Session, evaluation_id: str) -> EvaluationRow:
    """The evaluation. Raises `NotFound`."""
    row = session.get(EvaluationRow, evaluation_id)
    if row is None:
        raise NotFound(f"there is no evaluation {evaluation_id!r}")
    return row


def hold_scores(session: Session, *evaluation_ids: str) -> list[EvaluationRow]:
    """The evaluations, in this order; their scores stay as they are until the transaction ends. Raises `NotFound`."""
    statement = (
        select(EvaluationRow)
        .where(col(EvaluationRow.id).in_(evaluation_ids))
        .order_by(col(EvaluationRow.id))
        .with_for_update(read=True)
        .execution_options(populate_existing=True)
    )
    found = {row.id: row for row in session.scalars(statement)}
    for missing in (each for each in evaluation_ids if each not in found):
        raise NotFound(f"there is no evaluation {missing!r}")
    return [found[each] for each in evaluation_ids]


def cancel_evaluation(session: Session, evaluation_id: str, *, reason: str, message: str, actor: str) -> EvaluationRow:
    """Ask the evaluation to end; one that nobody works on ends at once, one that has ended stays as it is."""
    row = leases.lock_job(session, EvaluationRow, evaluation_id)
    leases.cancel(session, row, reason=reason, message=message, actor=actor)
    return row


def retry_evaluation(
    session: Session, evaluation_id: str, *, given_etag: str, message: str, actor: str
) -> EvaluationRow:
    """Queue an evaluation that has ended without success once more. Raises `NotFound`, `Aborted` for a stale etag, and
    `FailedPrecondition` for one in another state, and for a trial's."""
    row = leases.lock_job(session, EvaluationRow, evaluation_id)
    check_etag(given_etag, row)
    run = session.get(RunRow, row.run_id) if row.run_id else None
    if run is not None and run.trial_id and row.id in run.evaluation_ids:
        raise FailedPrecondition(
            f"{row.id} decides {run.trial_id} of {run.sweep_id}, whose search has learnt of its end: create an "
            "evaluation of the same model instead"
        )
    leases.retry(session, row, message=message, actor=actor)
    return row


def succeed(session: Session, row: EvaluationRow, result: Result, end: leases.End) -> None:
    """Compute the scorecard and end the evaluation. The caller holds the lease.

    Raises `FailedPrecondition` when samples are missing, or another model or scorer than the registered one was used.
    """
    _check_complete(session, row)
    if result.scorer_version != row.scorer_version:
        raise FailedPrecondition(
            f"{row.id} is to be scored by scorer {row.scorer_version}, but the worker used "
            f"{result.scorer_version}: evaluator and registry must run the same release"
        )
    model = session.get_one(ModelVersionRow, row.model_id, with_for_update=True, populate_existing=True)
    if result.loaded_digest not in (None, result.model_digest):
        raise FailedPrecondition(
            f"{row.id} is reported with model digest {result.model_digest}, but the inferencer loads "
            f"{result.loaded_digest or 'nothing'} from {model.reference}"
        )
    pin_digest(session, model, result.model_digest)
    row.model_digest = result.model_digest
    known = model.format != "reference" or result.loaded_digest is not None
    row.verified = known and all_verified(session, row.id)
    now = utc_now()
    write_score(session, row, now)
    holder = leases.holder_of(session, row)
    leases.end_attempt(session, row, "succeeded", message=end.message, now=now)
    transition(session, row, JobState.SUCCEEDED, message=end.message, actor=holder, attempt=row.epoch, now=now)


def write_score(session: Session, row: EvaluationRow, ended: datetime) -> None:
    """Compute the scorecard of what is recorded, and sign it as that of an evaluation that ended then."""
    _write_scorecard(session, row)
    row.signing_key_id, row.signature = sign(session, _signed(session, row, ended))


def refuse(session: Session, row: EvaluationRow, difference: str) -> None:
    """End the evaluation as FAILED: what its worker recorded is not what the predictions give. The caller holds the
    lease."""
    leases.end_attempt(session, row, "failed", reason=Reason.RESULT_REFUSED, message=difference)
    transition(session, row, JobState.FAILED, reason=Reason.RESULT_REFUSED, message=difference, attempt=row.epoch)


def _run_of(session: Session, model: ModelVersionRow | None) -> RunRow | None:
    """The run that made the model, if one here did."""
    return None if model is None or model.run_id is None else session.get(RunRow, model.run_id)


def _draft(
    spec: EvaluationSpec, model: ModelVersionRow | None, evalset: EvalSetRow, *, actor: str, run: RunRow | None
) -> EvaluationRow:
    return EvaluationRow(
        id=new_id("eval"),
        create_time=utc_now(),
        created_by=actor,
        progress_total=evalset.item_count * spec.samples_per_item,
        progress_unit="items",
        run_id=None if run is None else run.id,
        model_id="" if model is None else model.id,
        model_name="" if model is None else model.name,
        dataset_id="" if run is None else run.dataset_id,
        config={} if run is None else config_of(run_spec(run)),
        evalset_id=evalset.id,
        evalset_key=evalset.key,
        generation=spec.generation,
        evalset_digest=evalset.digest,
        generation_digest=generation_digest(spec.generation),
        scorer_version=installed_scorers().version,
        model_digest="" if model is None else model.digest,
        threshold=spec.threshold,
        samples_per_item=spec.samples_per_item,
        tags=spec.tags,
        queue_deadline_seconds=spec.queue_deadline_seconds,
    )


def _queue(session: Session, row: EvaluationRow) -> EvaluationRow:
    record_creation(session, row, actor=row.created_by)
    emit_command(session, row)
    return row


def _check_complete(session: Session, row: EvaluationRow) -> None:
    evalset = session.get_one(EvalSetRow, row.evalset_id)
    wanted = evalset.item_count * row.samples_per_item
    missing = wanted - count_recorded(session, row.id)
    if missing:
        raise FailedPrecondition(
            f"{row.id} cannot be SUCCEEDED: {missing} of {wanted} samples ({evalset.item_count} items × "
            f"{row.samples_per_item}) are not recorded"
        )


def _signed(session: Session, row: EvaluationRow, ended: datetime) -> bytes:
    """What the registry signs of the score."""
    run = session.get(RunRow, row.run_id) if row.run_id else None
    return evaluation_statement(
        evaluation_id=row.id,
        run_id=row.run_id or "",
        run_version="" if run is None else run.spec_digest,
        model_id=row.model_id,
        identity=row.identity,
        evaluated_at=time_text(ended),
        samples_per_item=row.samples_per_item,
        threshold=row.threshold,
        primary_score=row.primary_score,
        verified=row.verified,
        predictions_digest=predictions_digest(signed_samples(session, row)),
    )


def _write_scorecard(session: Session, row: EvaluationRow) -> None:
    card = scorecard(sample_rows(session, row), row.threshold, counts=installed_scorers().counts)
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
    if row.archive_time is None:
        store_values(session, row)
