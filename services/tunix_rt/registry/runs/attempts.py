"""Runs in the worker protocol: what a trainer is given, and what it completes with."""

from __future__ import annotations

from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.artifacts import ArtifactRoot
from tunix_rt.errors import FailedPrecondition, Violations
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.jobs.checks import check_entries
from tunix_rt.registry.jobs.kind import JobKind
from tunix_rt.registry.kernel.messages import artifact_message
from tunix_rt.registry.kernel.states import JobState, Reason, transition
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.runs import rules
from tunix_rt.registry.runs.checks import read_artifact
from tunix_rt.registry.runs.messages import checkpoint_message, run_message
from tunix_rt.registry.runs.reports import checkpoints_of
from tunix_rt.registry.runs.tables import CheckpointRow, RunRow
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import jobs_pb2 as pb

_STORED_MODEL: Final = "model://"


def _before_claim(session: Session, run: RunRow, pool: str) -> None:
    """Only a worker of the run's pool may have it; a run whose dataset or base model is gone has failed."""
    if pool and pool != run.pool:
        raise FailedPrecondition(f"{run.id} is for pool {run.pool!r}, not {pool!r}")
    gone = ""
    if run.base_model.startswith(_STORED_MODEL) and _base_model_of(session, run) is None:
        gone = run.base_model
    if session.get(DatasetRow, run.dataset_id) is None:
        gone = run.dataset_id
    waits = run.state in (JobState.QUEUED, JobState.RUNNING) and run.lease_attempt_id is None
    if gone and waits:
        transition(session, run, JobState.FAILED, reason=Reason.INVALID_ARTIFACT, message=f"{gone} no longer exists")


def _payload(session: Session, run: RunRow) -> pb.RunPayload:
    dataset = session.get_one(DatasetRow, run.dataset_id)
    payload = pb.RunPayload(
        run=run_message(run),
        dataset_id=dataset.id,
        dataset=artifact_message(dataset.uri, dataset.digest, dataset.size_bytes, dataset.files),
        checkpoints=map(checkpoint_message, checkpoints_of(session, run.id)),
    )
    base_model = _base_model_of(session, run)
    if base_model is not None:
        payload.base_model.CopyFrom(_artifact_of(base_model))
    source = payload.run.spec.initial_checkpoint
    if source.run_id:
        row = session.get_one(CheckpointRow, (source.run_id, source.step))
        payload.initial_checkpoint.CopyFrom(checkpoint_message(row))
    return payload


def _base_model_of(session: Session, run: RunRow) -> ModelVersionRow | None:
    if not run.base_model.startswith(_STORED_MODEL):
        return None
    return session.get(ModelVersionRow, run.base_model.removeprefix(_STORED_MODEL))


def _artifact_of(model: ModelVersionRow) -> common_pb2.Artifact:
    """What a loader needs: a stored model's artifact, or the reference of one that is not stored here."""
    return artifact_message(model.uri or model.reference, model.digest, model.size_bytes, model.files)


def _read_result(result: pb.RunResult, root: ArtifactRoot, violations: Violations) -> rules.Result:
    given = violations.check(result.HasField("model"), "model", "is required")
    model = read_artifact(result.model, root, violations.under("model") if given else Violations())
    violations.check(result.step >= 0, "step", "must not be negative")
    check_entries(result.lineage, violations, "lineage")
    return rules.Result(model, result.step, dict(result.lineage))


RUN: Final = JobKind(
    name="run",
    number=pb.JOB_KIND_RUN,
    table=RunRow,
    payload=_payload,
    read_result=_read_result,
    succeed=rules.succeed,
    before_claim=_before_claim,
    pool_of=lambda run: run.pool,
    heartbeat=rules.heartbeat_run,
)
