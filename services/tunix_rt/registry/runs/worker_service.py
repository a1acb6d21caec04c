"""RunService for workers: every write is checked against the newest lease, in the transaction that writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import grpc
from sqlalchemy.orm import Session

from tunix_rt.errors import FailedPrecondition, Violations
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.artifact_messages import artifact_message
from tunix_rt.registry.kernel.calls import checked_id
from tunix_rt.registry.kernel.clock import utc_now
from tunix_rt.registry.kernel.dependencies import Dependencies
from tunix_rt.registry.kernel.fields import check_text
from tunix_rt.registry.kernel.job_messages import lease_message, read_heartbeat, read_lease, reason_value
from tunix_rt.registry.kernel.states import JobState, Reason, transition
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.runs import report_checks as checks
from tunix_rt.registry.runs import reports as run_reports
from tunix_rt.registry.runs import rules as runs
from tunix_rt.registry.runs.messages import checkpoint_message, run_message
from tunix_rt.registry.runs.tables import CheckpointRow, RunRow
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import runs_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]
R = TypeVar("R")


class RunAttempts:
    """The worker half of RunService."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._database = dependencies.database
        self._lease_ttl = dependencies.settings.lease_ttl
        self._artifact_root = dependencies.artifacts.root

    async def _under_lease(self, lease: leases.Lease, write: Callable[[Session, RunRow], R]) -> R:
        def unit(session: Session) -> R:
            return write(session, leases.check(session, RunRow, lease))

        return await self._database.run_write(unit)

    async def ClaimAttempt(self, request: pb.ClaimAttemptRequest, context: Context) -> pb.ClaimAttemptResponse:
        checked_id(request.run_id, "run_id")
        violations = Violations()
        checks.check_worker(request.worker_id, violations)
        checks.check_environment(request.environment, violations)
        violations.raise_if_any()
        return await self._database.run_write(lambda session: _claim(session, request, self._lease_ttl))

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.HeartbeatResponse:
        lease, progress = read_heartbeat(request)

        def beat(session: Session) -> pb.HeartbeatResponse:
            run, extended = runs.heartbeat_run(session, lease, progress=progress, ttl=self._lease_ttl)
            return pb.HeartbeatResponse(
                lease=lease_message(extended),
                cancel_requested=run.state == JobState.CANCELLING,
                cancel_reason=reason_value(run.cancel_reason),
            )

        return await self._database.run_write(beat)

    async def ReportMetrics(self, request: pb.ReportMetricsRequest, context: Context) -> pb.ReportMetricsResponse:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        points = checks.read_points(request, utc_now(), violations)
        violations.raise_if_any()
        stored = await self._under_lease(lease, lambda session, run: run_reports.store_metrics(session, run, points))
        return pb.ReportMetricsResponse(stored=stored)

    async def ReportLogs(self, request: pb.ReportLogsRequest, context: Context) -> pb.ReportLogsResponse:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        lines = checks.read_lines(request, utc_now(), violations)
        violations.raise_if_any()
        stored = await self._under_lease(
            lease, lambda session, run: run_reports.store_logs(session, run, lease.epoch, lines)
        )
        return pb.ReportLogsResponse(stored=stored)

    async def RecordCheckpoint(
        self, request: pb.RecordCheckpointRequest, context: Context
    ) -> pb.RecordCheckpointResponse:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        # In a thread: it follows links in a file system that may be a network's.
        await self._database.run(lambda: checks.check_checkpoint(request, self._artifact_root, violations))
        violations.raise_if_any()
        checkpoint = request.checkpoint

        def record(session: Session, run: RunRow) -> None:
            run_reports.record_checkpoint(
                session,
                run,
                lease.epoch,
                step=checkpoint.step,
                uri=checkpoint.uri,
                digest=checkpoint.digest,
                size_bytes=checkpoint.size_bytes,
                time=utc_now(),
                removed_steps=list(request.removed_steps),
            )

        await self._under_lease(lease, record)
        return pb.RecordCheckpointResponse()

    async def CompleteAttempt(self, request: pb.CompleteAttemptRequest, context: Context) -> pb.Run:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        completion = await self._database.run(lambda: checks.read_completion(request, self._artifact_root, violations))
        violations.raise_if_any()
        return await self._database.run_write(
            lambda session: run_message(runs.complete_attempt(session, lease, completion))
        )

    async def ReleaseAttempt(self, request: pb.ReleaseAttemptRequest, context: Context) -> pb.ReleaseAttemptResponse:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        check_text(violations, request.message, "message", checks.MAX_MESSAGE)
        violations.raise_if_any()
        await self._database.run_write(lambda session: leases.release(session, RunRow, lease, message=request.message))
        return pb.ReleaseAttemptResponse()


def _claim(session: Session, request: pb.ClaimAttemptRequest, ttl: timedelta) -> pb.ClaimAttemptResponse:
    run = leases.lock_job(session, RunRow, request.run_id)
    if request.pool and request.pool != run.pool:
        raise FailedPrecondition(f"{run.id} is for pool {run.pool!r}, not {request.pool!r}")
    dataset = session.get(DatasetRow, run.dataset_id)
    base_model = None
    if run.base_model.startswith("model://"):
        base_model = session.get(ModelVersionRow, run.base_model.removeprefix("model://"))
    missing = dataset is None or (base_model is None and run.base_model.startswith("model://"))
    if missing and run.state == JobState.QUEUED:
        gone = run.dataset_id if dataset is None else run.base_model
        transition(session, run, JobState.FAILED, reason=Reason.INVALID_ARTIFACT, message=f"{gone} no longer exists")
        return pb.ClaimAttemptResponse(run=run_message(run))
    run, claim = leases.claim(
        session, RunRow, run.id, worker_id=request.worker_id, environment=request.environment, ttl=ttl
    )
    response = pb.ClaimAttemptResponse(
        granted=claim.granted, run=run_message(run), retry_after_seconds=claim.retry_after_seconds
    )
    if claim.lease is None or dataset is None:
        return response
    response.lease.CopyFrom(lease_message(claim.lease))
    response.dataset.id = dataset.id
    response.dataset.artifact.CopyFrom(artifact_message(dataset.uri, dataset.digest, dataset.size_bytes, dataset.files))
    found = run_reports.checkpoints_of(session, run.id)
    response.checkpoints.extend(checkpoint_message(row) for row in found)
    source = response.run.spec.initial_checkpoint
    if source.run_id:
        row = session.get_one(CheckpointRow, (source.run_id, source.step))
        response.initial_checkpoint.CopyFrom(checkpoint_message(row))
    if base_model is not None:
        response.base_model_artifact.CopyFrom(_artifact_of(base_model))
    return response


def _artifact_of(model: ModelVersionRow) -> common_pb2.Artifact:
    """What a loader needs: a stored model's artifact, or the reference of one that is not stored here."""
    return artifact_message(model.uri or model.reference, model.digest, model.size_bytes, model.files)
