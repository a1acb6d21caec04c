"""SweepService for clients: creating, reading, changing, cancelling and following sweeps, and their results."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import grpc
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import Violations
from tunix_rt.registry.kernel.calls import caller, checked_id, follow
from tunix_rt.registry.kernel.fields import check_text
from tunix_rt.registry.kernel.filters import FilterField, Kind, compile_filter, state_field
from tunix_rt.registry.kernel.idempotency import Identified, answer_once, check_request_id
from tunix_rt.registry.kernel.pages import Key, choose_order, context_digest, page
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.runs.catalogue import StoredCatalogue
from tunix_rt.registry.runs.checks import check_labels
from tunix_rt.registry.sweeps import rules as sweeps
from tunix_rt.registry.sweeps.changes import extend_sweep, pause_sweep, resume_sweep
from tunix_rt.registry.sweeps.checks import resolve_sweep
from tunix_rt.registry.sweeps.messages import TrialSummary, sweep_message
from tunix_rt.registry.sweeps.result_messages import results_message
from tunix_rt.registry.sweeps.results import results_of
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow
from tunix_rt.registry.sweeps.watch import SweepWatch
from tunix_rt.registry.sweeps.worker_service import SweepAttempts, message_of, trial_messages
from tunix_rt.v1 import sweeps_pb2 as pb
from tunix_rt.v1 import sweeps_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
SERVICE: Final = pb.DESCRIPTOR.services_by_name["SweepService"].full_name

_FIELDS: Final[Mapping[str, FilterField]] = {
    "id": FilterField(SweepRow.id),
    "display_name": FilterField(SweepRow.display_name),
    "state": state_field(SweepRow.state, JobState),
    "create_time": FilterField(SweepRow.create_time, Kind.TIME),
    "tags": FilterField(SweepRow.tags, Kind.TAGS),
}
_ORDERS: Final[Mapping[str, Sequence[Key]]] = {
    "create_time desc": (Key(col(SweepRow.create_time), descending=True), Key(col(SweepRow.id), descending=True)),
    "create_time": (Key(col(SweepRow.create_time)), Key(col(SweepRow.id))),
    "display_name": (Key(col(SweepRow.display_name)), Key(col(SweepRow.id))),
}
# Of one who watches, between two looks: the trials of a large sweep move many times a second.
_WATCH_REST_SECONDS: Final = 0.2
_HIGHEST: Final = 1.7e308
_TRIAL_NUMBER: Final = Key(col(TrialRow.number))
# Trials without an objective come last.
_TRIAL_ORDERS: Final[Mapping[str, Sequence[Key]]] = {
    "number": (_TRIAL_NUMBER,),
    "objective desc": (Key(func.coalesce(col(TrialRow.objective), -_HIGHEST), descending=True), _TRIAL_NUMBER),
    "objective": (Key(func.coalesce(col(TrialRow.objective), _HIGHEST)), _TRIAL_NUMBER),
}


class SweepServicer(SweepAttempts, sweeps_pb2_grpc.SweepServiceServicer):
    """Implements ``tunix_rt.v1.SweepService``."""

    async def CreateSweep(self, request: pb.CreateSweepRequest, context: Context) -> pb.Sweep:
        actor = caller()

        def create(session: Session) -> pb.Sweep:
            violations = Violations()
            check_labels(violations, request.display_name, request.tags)
            spec = resolve_sweep(request.spec, StoredCatalogue(session), violations.under("spec"))
            violations.raise_if_any()
            sweep = sweeps.new_sweep(spec, display_name=request.display_name, tags=request.tags, actor=actor)
            if request.validate_only:
                return sweep_message(sweep, TrialSummary())
            return message_of(session, sweeps.create_sweep(session, sweep))

        if request.validate_only:
            if request.request_id:
                check_request_id(request.request_id)
            return await self._database.run_write(create)
        return await self._database.run_write(
            lambda session: answer_once(session, "CreateSweep", request, lambda: create(session), pb.Sweep)
        )

    async def GetSweep(self, request: pb.GetSweepRequest, context: Context) -> pb.Sweep:
        checked_id(request.id)
        return await self._database.run_read(lambda session: message_of(session, sweeps.get_sweep(session, request.id)))

    async def ListSweeps(self, request: pb.ListSweepsRequest, context: Context) -> pb.ListSweepsResponse:
        condition = compile_filter(request.filter, _FIELDS)
        keys = choose_order(request.order_by, _ORDERS)
        digest = context_digest("ListSweeps", request.filter, " ".join(request.order_by.split()))

        def read(session: Session) -> pb.ListSweepsResponse:
            statement = select(SweepRow).where(condition)
            rows, token = page(session, statement, keys, request.page_size, request.page_token, digest)
            of_trials = sweeps.summaries(session, rows)
            found = [sweep_message(row, of_trials[row.id]) for row in rows]
            return pb.ListSweepsResponse(sweeps=found, next_page_token=token)

        return await self._database.run_read(read)

    async def CancelSweep(self, request: pb.CancelSweepRequest, context: Context) -> pb.Sweep:
        checked_id(request.id)
        violations = Violations()
        check_text(violations, request.message, "message", 2000)
        violations.raise_if_any()
        actor = caller()

        return await self._change(
            request,
            "CancelSweep",
            lambda session: sweeps.cancel_sweep(session, request.id, message=request.message, actor=actor),
        )

    async def PauseSweep(self, request: pb.PauseSweepRequest, context: Context) -> pb.Sweep:
        checked_id(request.id)
        return await self._change(request, "PauseSweep", lambda session: pause_sweep(session, request.id))

    async def ResumeSweep(self, request: pb.ResumeSweepRequest, context: Context) -> pb.Sweep:
        checked_id(request.id)
        return await self._change(request, "ResumeSweep", lambda session: resume_sweep(session, request.id))

    async def ExtendSweep(self, request: pb.ExtendSweepRequest, context: Context) -> pb.Sweep:
        checked_id(request.id)
        actor = caller()
        return await self._change(
            request,
            "ExtendSweep",
            lambda session: extend_sweep(session, request.id, request.num_samples, actor=actor),
        )

    async def _change(self, request: Identified, method: str, change: Callable[[Session], SweepRow]) -> pb.Sweep:
        return await self._database.run_write(
            lambda session: answer_once(
                session, method, request, lambda: message_of(session, change(session)), pb.Sweep
            )
        )

    async def GetSweepResults(self, request: pb.GetSweepResultsRequest, context: Context) -> pb.SweepResults:
        checked_id(request.id)

        def read(session: Session) -> pb.SweepResults:
            sweep = sweeps.get_sweep(session, request.id)
            return results_message(message_of(session, sweep), results_of(session, sweep))

        return await self._database.run_read(read)

    async def ListTrials(self, request: pb.ListTrialsRequest, context: Context) -> pb.ListTrialsResponse:
        checked_id(request.sweep_id, "sweep_id")
        keys = choose_order(request.order_by, _TRIAL_ORDERS)
        digest = context_digest("ListTrials", request.sweep_id, " ".join(request.order_by.split()))

        def read(session: Session) -> pb.ListTrialsResponse:
            sweep = sweeps.get_sweep(session, request.sweep_id)
            statement = select(TrialRow).where(col(TrialRow.sweep_id) == request.sweep_id)
            rows, token = page(session, statement, keys, request.page_size, request.page_token, digest)
            return pb.ListTrialsResponse(trials=trial_messages(session, sweep, rows), next_page_token=token)

        return await self._database.run_read(read)

    async def WatchSweep(self, request: pb.WatchSweepRequest, context: Context) -> AsyncIterator[pb.WatchSweepResponse]:
        checked_id(request.id)
        watch = SweepWatch(request.id)
        async for response in follow(self._database, [request.id], watch.look, rest_seconds=_WATCH_REST_SECONDS):
            yield response
