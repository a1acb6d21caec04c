"""RunService for clients: creating, reading, changing, cancelling and following runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import grpc
from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import Violations
from tunix_rt.registry.kernel.calls import caller, cancel_reason, checked_id, follow
from tunix_rt.registry.kernel.columns import UtcDateTime
from tunix_rt.registry.kernel.filters import FilterField, Kind, compile_filter, state_field
from tunix_rt.registry.kernel.idempotency import answer_once, check_request_id
from tunix_rt.registry.kernel.pages import Key, choose_order, context_digest, page, page_of_columns
from tunix_rt.registry.kernel.states import JobState, Reason, is_terminal
from tunix_rt.registry.runs import rules as runs
from tunix_rt.registry.runs.catalogue import StoredCatalogue
from tunix_rt.registry.runs.checks import check_labels, check_update, resolve_spec
from tunix_rt.registry.runs.messages import RUN_COLUMNS, checkpoint_message, log_message, metric_message, run_message
from tunix_rt.registry.runs.reports import present_checkpoints
from tunix_rt.registry.runs.tables import CheckpointRow, LogRow, MetricRow, RunRow
from tunix_rt.registry.runs.worker_service import RunAttempts
from tunix_rt.v1 import runs_pb2 as pb
from tunix_rt.v1 import runs_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_FIELDS: Final[Mapping[str, FilterField]] = {
    **{
        name: FilterField(getattr(RunRow, name))
        for name in ("id", "display_name", "pool", "base_model", "dataset_id", "model_name", "sweep_id", "model_id")
    },
    "state": state_field(RunRow.state, JobState),
    "reason": state_field(RunRow.reason, Reason),
    **{name: FilterField(getattr(RunRow, name), Kind.TIME) for name in ("create_time", "start_time", "end_time")},
    "tags": FilterField(RunRow.tags, Kind.TAGS),
}
# What has not ended comes last, in either direction.
_LATEST: Final = literal(datetime(9999, 1, 1, tzinfo=UTC), UtcDateTime)
_EARLIEST: Final = literal(datetime(1970, 1, 1, tzinfo=UTC), UtcDateTime)
_ID: Final = Key(col(RunRow.id))
_ID_DOWN: Final = Key(col(RunRow.id), descending=True)
_ORDERS: Final[Mapping[str, Sequence[Key]]] = {
    "create_time desc": (Key(col(RunRow.create_time), descending=True), _ID_DOWN),
    "create_time": (Key(col(RunRow.create_time)), _ID),
    "end_time": (Key(func.coalesce(col(RunRow.end_time), _LATEST)), _ID),
    "end_time desc": (Key(func.coalesce(col(RunRow.end_time), _EARLIEST), descending=True), _ID_DOWN),
    "display_name": (Key(col(RunRow.display_name)), _ID),
}


def resolved_run(session: Session, request: pb.CreateRunRequest, *, actor: str) -> RunRow:
    """The run that ``request`` asks for, as it would be created. Raises `InvalidInput`."""
    violations = Violations()
    check_labels(violations, request.display_name, request.tags)
    spec = resolve_spec(request.spec, StoredCatalogue(session), violations.under("spec"))
    violations.raise_if_any()
    return runs.new_run(spec, display_name=request.display_name, tags=request.tags, actor=actor)


SERVICE: Final = pb.DESCRIPTOR.services_by_name["RunService"].full_name


class RunServicer(RunAttempts, runs_pb2_grpc.RunServiceServicer):
    """Implements ``tunix_rt.v1.RunService``."""

    async def CreateRun(self, request: pb.CreateRunRequest, context: Context) -> pb.Run:
        actor = caller()

        def create(session: Session) -> pb.Run:
            run = resolved_run(session, request, actor=actor)
            return run_message(run if request.validate_only else runs.create_run(session, run))

        if request.validate_only:
            if request.request_id:
                check_request_id(request.request_id)
            return await self._database.run_write(create)
        return await self._database.run_write(
            lambda session: answer_once(session, "CreateRun", request, lambda: create(session), pb.Run)
        )

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.Run:
        checked_id(request.id)
        return await self._database.run_read(
            lambda session: run_message(runs.get_run(session, request.id)), statement=True
        )

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        condition = compile_filter(request.filter, _FIELDS)
        keys = choose_order(request.order_by, _ORDERS)
        digest = context_digest("ListRuns", request.filter, " ".join(request.order_by.split()))

        def read(session: Session) -> pb.ListRunsResponse:
            rows, token = page_of_columns(
                session, RUN_COLUMNS, condition, keys, request.page_size, request.page_token, digest
            )
            return pb.ListRunsResponse(runs=map(run_message, rows), next_page_token=token)

        return await self._database.run_read(read, statement=True)

    async def UpdateRun(self, request: pb.UpdateRunRequest, context: Context) -> pb.Run:
        changed = check_update(request)

        def update(session: Session) -> pb.Run:
            run = runs.update_run(
                session,
                request.run.id,
                given_etag=request.run.etag,
                display_name=request.run.display_name if "display_name" in changed else None,
                tags=dict(request.run.tags) if "tags" in changed else None,
            )
            return run_message(run)

        return await self._database.run_write(
            lambda session: answer_once(session, "UpdateRun", request, lambda: update(session), pb.Run)
        )

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.Run:
        checked_id(request.id)
        reason = cancel_reason(request.reason, request.message)
        actor = caller()

        def cancel(session: Session) -> pb.Run:
            run = runs.cancel_run(session, request.id, reason=reason, message=request.message, actor=actor)
            return run_message(run)

        return await self._database.run_write(
            lambda session: answer_once(session, "CancelRun", request, lambda: cancel(session), pb.Run)
        )

    async def ListCheckpoints(self, request: pb.ListCheckpointsRequest, context: Context) -> pb.ListCheckpointsResponse:
        checked_id(request.run_id, "run_id")
        digest = context_digest("ListCheckpoints", request.run_id)

        def read(session: Session) -> pb.ListCheckpointsResponse:
            runs.get_run(session, request.run_id)
            keys = (Key(col(CheckpointRow.step), descending=True),)
            rows, token = page(
                session,
                present_checkpoints(request.run_id),
                keys,
                request.page_size,
                request.page_token,
                digest,
                default=100,
            )
            return pb.ListCheckpointsResponse(checkpoints=map(checkpoint_message, rows), next_page_token=token)

        return await self._database.run_read(read)

    async def ListMetrics(self, request: pb.ListMetricsRequest, context: Context) -> pb.ListMetricsResponse:
        checked_id(request.run_id, "run_id")
        violations = Violations()
        violations.check(len(request.keys) <= 100, "keys", "at most 100")
        for index, key in enumerate(request.keys):
            violations.check("\0" not in key, f"keys[{index}]", "must not contain NUL")
        violations.raise_if_any()
        digest = context_digest("ListMetrics", request.run_id, *sorted(request.keys))

        def read(session: Session) -> pb.ListMetricsResponse:
            runs.get_run(session, request.run_id)
            statement = select(MetricRow).where(col(MetricRow.run_id) == request.run_id)
            if request.keys:
                statement = statement.where(col(MetricRow.key).in_(request.keys))
            keys = (Key(col(MetricRow.key)), Key(col(MetricRow.step)))
            rows, token = page(
                session, statement, keys, request.page_size, request.page_token, digest, default=1000, maximum=10_000
            )
            return pb.ListMetricsResponse(points=[metric_message(row) for row in rows], next_page_token=token)

        return await self._database.run_read(read)

    async def ListLogs(self, request: pb.ListLogsRequest, context: Context) -> pb.ListLogsResponse:
        checked_id(request.run_id, "run_id")
        digest = context_digest("ListLogs", request.run_id)

        def read(session: Session) -> pb.ListLogsResponse:
            runs.get_run(session, request.run_id)
            statement = select(LogRow).where(col(LogRow.run_id) == request.run_id)
            keys = (Key(col(LogRow.attempt)), Key(col(LogRow.sequence)))
            rows, token = page(
                session, statement, keys, request.page_size, request.page_token, digest, default=500, maximum=5000
            )
            return pb.ListLogsResponse(lines=[log_message(row) for row in rows], next_page_token=token)

        return await self._database.run_read(read)

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        checked_id(request.id)

        def read(session: Session) -> tuple[pb.WatchRunResponse, bool]:
            run = runs.get_run(session, request.id)
            return pb.WatchRunResponse(run=run_message(run)), is_terminal(run)

        async for response in follow(self._database, [request.id], read):
            yield response
