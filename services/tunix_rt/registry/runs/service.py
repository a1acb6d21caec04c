"""RunService: for clients, creating, reading, changing, cancelling and following runs; for trainers, their reports.

Every report is checked against the newest lease, in the transaction that writes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.bus.topology import TRAIN_SUBJECT
from tunix_rt.contract.hyperparameters import warnings_of
from tunix_rt.contract.messages import hyperparameters_of
from tunix_rt.errors import Violations
from tunix_rt.registry import quotas
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.archive import archived_field
from tunix_rt.registry.kernel.calls import Context, Servicer, caller, checked_id
from tunix_rt.registry.kernel.columns import UtcDateTime
from tunix_rt.registry.kernel.filters import FilterField, Kind, state_field
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.messages import check_retry, read_lease
from tunix_rt.registry.kernel.pages import Key, by_create_time
from tunix_rt.registry.kernel.projects import own_project
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.states import JobState, Reason, is_terminal
from tunix_rt.registry.runs import checks, reports, rules
from tunix_rt.registry.runs.messages import RUN_COLUMNS, checkpoint_message, log_message, metric_message, run_message
from tunix_rt.registry.runs.tables import CheckpointRow, LogRow, MetricRow, RunRow
from tunix_rt.v1 import common_pb2, runs_pb2_grpc
from tunix_rt.v1 import runs_pb2 as pb

R = TypeVar("R")

SERVICE: Final = pb.DESCRIPTOR.services_by_name["RunService"].full_name

# What has not ended comes last, in either direction.
_LATEST: Final = literal(datetime(9999, 1, 1, tzinfo=UTC), UtcDateTime)
_EARLIEST: Final = literal(datetime(1970, 1, 1, tzinfo=UTC), UtcDateTime)
_ID: Final = Key(col(RunRow.id))
_ID_DOWN: Final = Key(col(RunRow.id), descending=True)

_RUNS: Final = Listing(
    pb.ListRunsResponse,
    RunRow,
    run_message,
    orders={
        **by_create_time(RunRow),
        "end_time": (Key(func.coalesce(col(RunRow.end_time), _LATEST)), _ID),
        "end_time desc": (Key(func.coalesce(col(RunRow.end_time), _EARLIEST), descending=True), _ID_DOWN),
        "display_name": (Key(col(RunRow.display_name)), _ID),
    },
    fields={
        **{
            name: FilterField(getattr(RunRow, name))
            for name in (
                "id",
                "display_name",
                "pool",
                "base_model",
                "dataset_id",
                "model_name",
                "sweep_id",
                "model_id",
                "project",
            )
        },
        "state": state_field(RunRow.state, JobState),
        "reason": state_field(RunRow.reason, Reason),
        **{name: FilterField(getattr(RunRow, name), Kind.TIME) for name in ("create_time", "start_time", "end_time")},
        **archived_field(RunRow),
        "tags": FilterField(RunRow.tags, Kind.TAGS),
    },
    columns=RUN_COLUMNS,
)
_CHECKPOINTS: Final = Listing(
    pb.ListCheckpointsResponse,
    CheckpointRow,
    checkpoint_message,
    orders={"": (Key(col(CheckpointRow.step), descending=True),)},
    default=100,
)
_METRICS: Final = Listing(
    pb.ListMetricsResponse,
    MetricRow,
    metric_message,
    orders={"": (Key(col(MetricRow.key)), Key(col(MetricRow.step)))},
    default=1000,
    maximum=10_000,
)
_LOGS: Final = Listing(
    pb.ListLogsResponse,
    LogRow,
    log_message,
    orders={"": (Key(col(LogRow.attempt)), Key(col(LogRow.sequence)))},
    default=500,
    maximum=5000,
)


class RunServicer(Servicer, runs_pb2_grpc.RunServiceServicer):
    """Implements ``tunix_rt.v1.RunService``."""

    async def CreateRun(self, request: pb.CreateRunRequest, context: Context) -> pb.Run:
        actor = caller()

        def create(session: Session) -> RunRow:
            run = rules.new_run(
                checks.resolve_run(session, request),
                display_name=request.display_name,
                tags=request.tags,
                actor=actor,
            )
            run.project = own_project(session)
            if request.validate_only:
                return run
            quotas.check_queued_jobs(session, self.settings)
            quotas.check_stored_bytes(session, self.settings)
            return rules.create_run(session, run)

        return self._shown(await self.mutate(request, pb.Run, create))

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.Run:
        checked_id(request.id)
        found = await self.read(lambda session: run_message(rules.get_run(session, request.id)), statement=True)
        return self._shown(found)

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        found = await self.read(lambda session: _RUNS.answer(session, request), statement=True)
        for run in found.runs:
            self._shown(run)
        return found

    async def UpdateRun(self, request: pb.UpdateRunRequest, context: Context) -> pb.Run:
        changed = checks.check_update(request)
        return await self.mutate(
            request,
            pb.Run,
            lambda session: rules.update_run(
                session,
                request.run.id,
                given_etag=request.run.etag,
                display_name=request.run.display_name if "display_name" in changed else None,
                tags=dict(request.run.tags) if "tags" in changed else None,
            ),
        )

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.Run:
        reason = checks.cancel_reason(request)
        actor = caller()
        return await self.mutate(
            request,
            pb.Run,
            lambda session: rules.cancel_run(session, request.id, reason=reason, message=request.message, actor=actor),
        )

    async def RetryRun(self, request: pb.RetryRunRequest, context: Context) -> pb.Run:
        check_retry(request)
        actor = caller()

        def retry(session: Session) -> RunRow:
            quotas.check_queued_jobs(session, self.settings)
            return rules.retry_run(session, request.id, given_etag=request.etag, message=request.message, actor=actor)

        return await self.mutate(request, pb.Run, retry)

    async def ListCheckpoints(self, request: pb.ListCheckpointsRequest, context: Context) -> pb.ListCheckpointsResponse:
        checked_id(request.run_id, "run_id")

        def read(session: Session) -> pb.ListCheckpointsResponse:
            rules.get_run(session, request.run_id)
            return _CHECKPOINTS.answer(session, request, reports.present_checkpoints(request.run_id), request.run_id)

        return await self.read(read)

    async def ListMetrics(self, request: pb.ListMetricsRequest, context: Context) -> pb.ListMetricsResponse:
        checked_id(request.run_id, "run_id")
        checks.check_keys(request)

        def read(session: Session) -> pb.ListMetricsResponse:
            rules.get_run(session, request.run_id)
            statement = select(MetricRow).where(col(MetricRow.run_id) == request.run_id)
            if request.keys:
                statement = statement.where(col(MetricRow.key).in_(request.keys))
            return _METRICS.answer(session, request, statement, request.run_id, *sorted(request.keys))

        return await self.read(read)

    async def ListLogs(self, request: pb.ListLogsRequest, context: Context) -> pb.ListLogsResponse:
        checked_id(request.run_id, "run_id")

        def read(session: Session) -> pb.ListLogsResponse:
            rules.get_run(session, request.run_id)
            statement = select(LogRow).where(col(LogRow.run_id) == request.run_id)
            return _LOGS.answer(session, request, statement, request.run_id)

        return await self.read(read)

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        checked_id(request.id)

        def read(session: Session) -> tuple[pb.WatchRunResponse, bool]:
            run = rules.get_run(session, request.id)
            return pb.WatchRunResponse(run=self._shown(run_message(run))), is_terminal(run)

        async for response in self.follow([request.id], read, shared=request.id):
            yield response

    async def ReportMetrics(self, request: pb.ReportMetricsRequest, context: Context) -> pb.ReportMetricsResponse:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        points = checks.read_points(request, utc_now(), violations)
        violations.raise_if_any()
        stored = await self._under_lease(lease, lambda session, run: reports.store_metrics(session, run, points))
        return pb.ReportMetricsResponse(stored=stored)

    async def ReportLogs(self, request: pb.ReportLogsRequest, context: Context) -> pb.ReportLogsResponse:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        lines = checks.read_lines(request, utc_now(), violations)
        violations.raise_if_any()
        stored = await self._under_lease(
            lease, lambda session, run: reports.store_logs(session, run, lease.epoch, lines)
        )
        return pb.ReportLogsResponse(stored=stored)

    async def RecordCheckpoint(
        self, request: pb.RecordCheckpointRequest, context: Context
    ) -> pb.RecordCheckpointResponse:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        # In a thread: it follows links in a file system that may be a network's.
        root = self.artifacts.root
        await self.database.run(lambda: checks.check_checkpoint(request, root, violations))
        violations.raise_if_any()
        checkpoint = request.checkpoint

        def record(session: Session, run: RunRow) -> None:
            reports.record_checkpoint(
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

    def _shown(self, run: pb.Run) -> pb.Run:
        """The run, with what is known of its pool and what is odd in its hyperparameters."""
        self.unserved.warn(run, f"{TRAIN_SUBJECT}.{run.spec.pool}")
        if run.state == common_pb2.JOB_STATE_QUEUED:
            found = (run.warning, *warnings_of(hyperparameters_of(run.spec.hyperparameters)))
            run.warning = "; ".join(text for text in found if text)
        return run

    async def _under_lease(self, lease: leases.Lease, write: Callable[[Session, RunRow], R]) -> R:
        return await self.write(lambda session: write(session, leases.check(session, RunRow, lease)))
