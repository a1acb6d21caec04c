"""Evaluations as jobs: creating, finding and cancelling them, and the facts and commands that follow.

Does not know how an answer is judged (`quality`), nor what ends an evaluation (`completion`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from tunix_rt.contract.generation import complete_generation
from tunix_rt.contract.messages import generation_fields
from tunix_rt.errors import NotFound
from tunix_rt.quality.identity import generation_digest
from tunix_rt.quality.scorer_plugins import installed_scorers
from tunix_rt.registry.evalsets.rules import get_evalset
from tunix_rt.registry.evalsets.tables import EvalSetRow
from tunix_rt.registry.evaluations.messages import evaluation_message
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel import job_kinds as jobs
from tunix_rt.registry.kernel import leases, outbox
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.rows import new_id
from tunix_rt.registry.kernel.messages import transition_message
from tunix_rt.registry.kernel.job_tables import TransitionRow
from tunix_rt.registry.kernel.states import JobState, record_creation
from tunix_rt.registry.models.rules import find_or_register, find_registered
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.runs.configs import config_of
from tunix_rt.registry.runs.tables import RunRow, run_spec
from tunix_rt.v1 import events_pb2

COMMAND_SUBJECT: Final = "tunix.cmd.evaluate"
DEFAULT_THRESHOLD: Final = 0.5

_FACTS: Final[Mapping[str, str]] = {
    JobState.QUEUED: "created",
    JobState.RUNNING: "running",
    JobState.CANCELLING: "cancelling",
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}


@dataclass(frozen=True)
class EvaluationSpec:
    """What to evaluate on what: ``model`` an id, a name or a reference; ``generation`` with every field set."""

    model: str
    evalset: str
    generation: dict[str, Any]
    threshold: float
    samples_per_item: int
    tags: dict[str, str]


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
    row.id = ""
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
        generation = complete_generation(generation_fields(asked.generation))
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


def cancel_evaluation(session: Session, evaluation_id: str, *, reason: str, message: str, actor: str) -> EvaluationRow:
    """Ask the evaluation to end; one that nobody works on ends at once, one that has ended stays as it is."""
    row = leases.lock_job(session, EvaluationRow, evaluation_id)
    leases.cancel(session, row, reason=reason, message=message, actor=actor)
    return row


@jobs.announce.register
def _announce(job: EvaluationRow, session: Session, transition: TransitionRow) -> None:
    event = events_pb2.EvaluationEvent(evaluation=evaluation_message(job), transition=transition_message(transition))
    outbox.emit_fact(session, "evaluation", _FACTS[transition.to_state], job.id, event)


@jobs.send_command.register
def _send_command(job: EvaluationRow, session: Session) -> None:
    command = events_pb2.JobCommand(job_id=job.id)
    outbox.emit_command(session, COMMAND_SUBJECT, command, resource_id=job.id)


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
    )


def _queue(session: Session, row: EvaluationRow) -> EvaluationRow:
    record_creation(session, row, actor=row.created_by)
    jobs.send_command(row, session)
    return row
