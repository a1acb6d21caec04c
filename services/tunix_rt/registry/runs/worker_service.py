"""RunService for workers: every write is checked against the newest lease, in the transaction that writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from sqlalchemy.orm import Session

from tunix_rt.errors import Violations
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.registry.kernel.messages import read_lease
from tunix_rt.registry.runs import report_checks as checks
from tunix_rt.registry.runs import reports as run_reports
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.v1 import runs_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]
R = TypeVar("R")


class RunAttempts:
    """The worker half of RunService."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._database = dependencies.database
        self._artifact_root = dependencies.artifacts.root

    async def _under_lease(self, lease: leases.Lease, write: Callable[[Session, RunRow], R]) -> R:
        def unit(session: Session) -> R:
            return write(session, leases.check(session, RunRow, lease))

        return await self._database.run_write(unit)

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
