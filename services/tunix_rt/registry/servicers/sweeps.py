"""SweepService: sweeps for clients, trials and leases for the tuner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import grpc
from google.protobuf import json_format
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import Violations
from tunix_rt.registry import leases, sweeps
from tunix_rt.registry.catalogue import StoredCatalogue
from tunix_rt.registry.dependencies import Dependencies
from tunix_rt.registry.filters import FilterField, Kind, compile_filter, state_field
from tunix_rt.registry.idempotency import answer_once, check_request_id
from tunix_rt.registry.messages.jobs import lease_message, read_lease, read_progress, reason_value
from tunix_rt.registry.messages.sweeps import TrialSummary, sweep_message, sweep_spec, trial_message
from tunix_rt.registry.outbox import message_json
from tunix_rt.registry.pages import Key, choose_order, context_digest, page
from tunix_rt.registry.servicers.calls import caller, checked_id, follow
from tunix_rt.registry.servicers.runs import new_run_of
from tunix_rt.registry.states import JobState, is_terminal
from tunix_rt.registry.tables.sweeps import SweepRow, TrialRow
from tunix_rt.registry.validation import run_reports as checks
from tunix_rt.registry.validation.fields import check_text
from tunix_rt.registry.validation.runs import check_labels
from tunix_rt.registry.validation.sweeps import resolve_sweep, trial_spec
from tunix_rt.search_space.rules import RULES
from tunix_rt.search_space.space import MAX_TRIALS
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
_HIGHEST: Final = 1.7e308
_TRIAL_NUMBER: Final = Key(col(TrialRow.number))
# Trials without an objective come last.
_TRIAL_ORDERS: Final[Mapping[str, Sequence[Key]]] = {
    "number": (_TRIAL_NUMBER,),
    "objective desc": (Key(func.coalesce(col(TrialRow.objective), -_HIGHEST), descending=True), _TRIAL_NUMBER),
    "objective": (Key(func.coalesce(col(TrialRow.objective), _HIGHEST)), _TRIAL_NUMBER),
}


class SweepServicer(sweeps_pb2_grpc.SweepServiceServicer):
    """Implements ``tunix_rt.v1.SweepService``."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._database = dependencies.database
        self._lease_ttl = dependencies.settings.lease_ttl

    async def CreateSweep(self, request: pb.CreateSweepRequest, context: Context) -> pb.Sweep:
        actor = caller()

        def create(session: Session) -> pb.Sweep:
            violations = Violations()
            check_labels(violations, request.display_name, request.tags)
            spec = resolve_sweep(request.spec, StoredCatalogue(session), violations.under("spec"))
            violations.raise_if_any()
            new = _new_sweep(spec, request)
            if request.validate_only:
                return sweep_message(sweeps.new_row(new, actor=actor), TrialSummary())
            return _message(session, sweeps.create_sweep(session, new, actor=actor))

        if request.validate_only:
            if request.request_id:
                check_request_id(request.request_id)
            return await self._database.run_write(create)
        return await self._database.run_write(
            lambda session: answer_once(session, "CreateSweep", request, lambda: create(session), pb.Sweep)
        )

    async def GetSweep(self, request: pb.GetSweepRequest, context: Context) -> pb.Sweep:
        checked_id(request.id)
        return await self._database.run_read(lambda session: _message(session, sweeps.get_sweep(session, request.id)))

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

        def cancel(session: Session) -> pb.Sweep:
            return _message(session, sweeps.cancel_sweep(session, request.id, message=request.message, actor=actor))

        return await self._database.run_write(
            lambda session: answer_once(session, "CancelSweep", request, lambda: cancel(session), pb.Sweep)
        )

    async def ListTrials(self, request: pb.ListTrialsRequest, context: Context) -> pb.ListTrialsResponse:
        checked_id(request.sweep_id, "sweep_id")
        keys = choose_order(request.order_by, _TRIAL_ORDERS)
        digest = context_digest("ListTrials", request.sweep_id, " ".join(request.order_by.split()))

        def read(session: Session) -> pb.ListTrialsResponse:
            sweeps.get_sweep(session, request.sweep_id)
            statement = select(TrialRow).where(col(TrialRow.sweep_id) == request.sweep_id)
            rows, token = page(session, statement, keys, request.page_size, request.page_token, digest)
            return pb.ListTrialsResponse(trials=[trial_message(row) for row in rows], next_page_token=token)

        return await self._database.run_read(read)

    async def WatchSweep(self, request: pb.WatchSweepRequest, context: Context) -> AsyncIterator[pb.WatchSweepResponse]:
        checked_id(request.id)

        def read(session: Session) -> tuple[pb.WatchSweepResponse, bool]:
            sweep = sweeps.get_sweep(session, request.id)
            trials = [trial_message(row) for row in sweeps.trials_of(session, request.id)]
            return pb.WatchSweepResponse(sweep=_message(session, sweep), trials=trials), is_terminal(sweep)

        async for response in follow(self._database, request.id, read):
            yield response

    async def ClaimSweep(self, request: pb.ClaimSweepRequest, context: Context) -> pb.ClaimSweepResponse:
        checked_id(request.sweep_id, "sweep_id")
        violations = Violations()
        checks.check_worker(request.worker_id, violations)
        checks.check_environment(request.environment, violations)
        violations.raise_if_any()

        def claim(session: Session) -> pb.ClaimSweepResponse:
            sweep, answer = leases.claim(
                session,
                SweepRow,
                request.sweep_id,
                worker_id=request.worker_id,
                environment=request.environment,
                ttl=self._lease_ttl,
            )
            response = pb.ClaimSweepResponse(
                granted=answer.granted,
                sweep=_message(session, sweep),
                retry_after_seconds=answer.retry_after_seconds,
            )
            if answer.lease is not None:
                response.lease.CopyFrom(lease_message(answer.lease))
                response.trials.extend(trial_message(row) for row in sweeps.trials_of(session, sweep.id))
            return response

        return await self._database.run_write(claim)

    async def HeartbeatSweep(self, request: pb.HeartbeatSweepRequest, context: Context) -> pb.HeartbeatSweepResponse:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        progress = None
        if request.HasField("progress"):
            progress = read_progress(request.progress, violations.under("progress"))
        violations.raise_if_any()

        def beat(session: Session) -> pb.HeartbeatSweepResponse:
            sweep, extended = leases.heartbeat(session, SweepRow, lease, progress=progress, ttl=self._lease_ttl)
            return pb.HeartbeatSweepResponse(
                lease=lease_message(extended),
                cancel_requested=sweep.state == JobState.CANCELLING,
                cancel_reason=reason_value(sweep.cancel_reason),
            )

        return await self._database.run_write(beat)

    async def CreateTrial(self, request: pb.CreateTrialRequest, context: Context) -> pb.Trial:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        violations.check(0 <= request.number < MAX_TRIALS, "number", f"must be in [0, {MAX_TRIALS})")
        violations.raise_if_any()
        suggested = json_format.MessageToDict(request.parameters)

        def create(session: Session) -> pb.Trial:
            sweep = leases.check(session, SweepRow, lease)
            before = sweeps.find_trial(session, sweep.id, request.number)
            if before is not None:
                return trial_message(before)
            return trial_message(_create_trial(session, sweep, request.number, suggested))

        return await self._database.run_write(create)

    async def CompleteSweep(self, request: pb.CompleteSweepRequest, context: Context) -> pb.Sweep:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        state, reason = checks.read_end(request.state, request.reason, request.message, violations)
        violations.raise_if_any()

        def complete(session: Session) -> pb.Sweep:
            sweep = sweeps.complete_sweep(
                session, lease, state, reason=reason, message=request.message, retryable=request.retryable
            )
            return _message(session, sweep)

        return await self._database.run_write(complete)

    async def ReleaseSweep(self, request: pb.ReleaseSweepRequest, context: Context) -> pb.ReleaseSweepResponse:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        check_text(violations, request.message, "message", checks.MAX_MESSAGE)
        violations.raise_if_any()
        await self._database.run_write(
            lambda session: leases.release(session, SweepRow, lease, message=request.message)
        )
        return pb.ReleaseSweepResponse()


def _message(session: Session, sweep: SweepRow) -> pb.Sweep:
    return sweep_message(sweep, sweeps.summaries(session, [sweep])[sweep.id])


def _new_sweep(spec: pb.SweepSpec, request: pb.CreateSweepRequest) -> sweeps.NewSweep:
    return sweeps.NewSweep(
        spec=message_json(spec),
        objective_metric=spec.objective.metric,
        objective_mode="MIN" if spec.objective.mode == pb.OBJECTIVE_MODE_MIN else "MAX",
        max_attempts=spec.max_attempts,
        display_name=request.display_name,
        tags=dict(request.tags),
    )


def _create_trial(session: Session, sweep: SweepRow, number: int, suggested: Mapping[str, Any]) -> TrialRow:
    """A new trial; its parameters must be exactly those of the search space, each valid for its field."""
    spec = sweep_spec(sweep)
    violations = Violations()
    expected = {parameter.name for parameter in spec.parameters}
    for name in sorted(expected ^ suggested.keys()):
        problem = "is missing" if name in expected else "is no parameter of this sweep"
        violations.add(f"parameters.{name}", problem)
    run_spec = trial_spec(spec.base, suggested, violations.under("parameters"))
    violations.raise_if_any()
    parameters = {name: RULES[name].cast(value) for name, value in suggested.items()}
    tags = {**sweep.tags, "sweep": sweep.id, "trial": str(number)}
    name = f"{sweep.display_name or sweep.id} #{number}"[:200]
    return sweeps.create_trial(
        session, sweep, number=number, parameters=parameters, new=new_run_of(run_spec, name, tags)
    )
