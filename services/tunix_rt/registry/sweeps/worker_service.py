"""SweepService for tuners: every write is checked against the newest lease, in the transaction that writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import grpc
from google.protobuf import json_format
from sqlalchemy.orm import Session

from tunix_rt.errors import Violations
from tunix_rt.registry.jobs.checks import MAX_MESSAGE
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.calls import checked_id, follow
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.registry.kernel.fields import check_text
from tunix_rt.registry.kernel.rows import new_id
from tunix_rt.registry.kernel.messages import read_lease
from tunix_rt.registry.kernel.states import is_terminal
from tunix_rt.registry.runs.messages import metric_message
from tunix_rt.registry.runs.rules import new_run
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.sweeps import rules as sweeps
from tunix_rt.registry.sweeps import trials
from tunix_rt.registry.sweeps.messages import sweep_message, trial_message
from tunix_rt.registry.sweeps.origin_checks import read_origin
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow, sweep_spec
from tunix_rt.registry.sweeps.trial_checks import check_observed, read_suggestion
from tunix_rt.registry.sweeps.trial_origins import continued
from tunix_rt.registry.sweeps.trial_reports import points_after, reported_trial, reports_of
from tunix_rt.search_space.space import MAX_TRIALS
from tunix_rt.v1 import sweeps_pb2 as pb

Context = grpc.aio.ServicerContext[Any, Any]
# Only what another registry process commits is found so late; a thousand trials may be watched at once.
_POLL_SECONDS: Final = 5.0


class SweepAttempts:
    """The tuner's half of SweepService."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._database = dependencies.database

    async def CreateTrial(self, request: pb.CreateTrialRequest, context: Context) -> pb.Trial:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        violations.check(0 <= request.number < MAX_TRIALS, "number", f"must be in [0, {MAX_TRIALS})")
        check_observed(request.observed, request.number, violations)
        violations.raise_if_any()
        suggested = json_format.MessageToDict(request.parameters)

        def create(session: Session) -> pb.Trial:
            sweep = leases.check(session, SweepRow, lease)
            trial = trials.find_trial(session, sweep.id, request.number)
            if trial is None:
                trials.check_begins_trials(sweep)
                trial = trials.create_trial(session, sweep, *_new_trial(session, sweep, request, suggested))
            return trial_messages(session, sweep, [trial])[0]

        return await self._database.run_write(create)

    async def WatchTrial(self, request: pb.WatchTrialRequest, context: Context) -> AsyncIterator[pb.WatchTrialResponse]:
        checked_id(request.sweep_id, "sweep_id")
        found, metric = await self._database.run_read(lambda session: _watched(session, request))
        step = -1
        last: pb.WatchTrialResponse | None = None

        def read(session: Session) -> tuple[pb.WatchTrialResponse, bool]:
            nonlocal step, last
            trial, report = reported_trial(session, found.id, metric)
            message = trial_message(trial, report)
            points = points_after(session, trial.run_id, metric, step) if metric else ()
            if last is None or points or message != last.trial:
                last = pb.WatchTrialResponse(trial=message, points=map(metric_message, points))
                step = points[-1].step if points else step
            return last, is_terminal(trial)

        async for response in follow(self._database, [found.id, found.run_id], read, poll_seconds=_POLL_SECONDS):
            yield response

    async def StopTrial(self, request: pb.StopTrialRequest, context: Context) -> pb.Trial:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        check_text(violations, request.message, "message", MAX_MESSAGE)
        violations.raise_if_any()

        def stop(session: Session) -> pb.Trial:
            sweep = leases.check(session, SweepRow, lease)
            trial = trials.stop_trial(session, sweep, request.number, request.message)
            return trial_messages(session, sweep, [trial])[0]

        return await self._database.run_write(stop)


def message_of(session: Session, sweep: SweepRow) -> pb.Sweep:
    """The sweep with what it shows of its trials."""
    return sweep_message(sweep, sweeps.summaries(session, [sweep])[sweep.id])


def trial_messages(session: Session, sweep: SweepRow, rows: Sequence[TrialRow]) -> list[pb.Trial]:
    """Trials of one sweep with what their runs have reported."""
    reports = reports_of(session, rows, sweep_spec(sweep).scheduling.metric)
    return [trial_message(row, reports.get(row.run_id)) for row in rows]


def _watched(session: Session, request: pb.WatchTrialRequest) -> tuple[TrialRow, str]:
    """The trial, and the metric that its sweep's scheduler compares."""
    trial = trials.get_trial(session, request.sweep_id, request.number)
    return trial, sweep_spec(sweeps.get_sweep(session, request.sweep_id)).scheduling.metric


def _new_trial(
    session: Session, sweep: SweepRow, request: pb.CreateTrialRequest, suggested: Mapping[str, Any]
) -> tuple[TrialRow, RunRow]:
    """The trial of a suggestion, and its run; raises `InvalidInput` naming all of it that does not fit the sweep."""
    spec = sweep_spec(sweep)
    configuration, repeat = divmod(request.number, spec.repeats)
    violations = Violations()
    origin = read_origin(spec, request, violations)
    parameters, run = read_suggestion(spec, request.number, suggested, violations, replaces=request.HasField("origin"))
    first = trials.find_trial(session, sweep.id, request.number - repeat) if repeat else None
    if first is not None and not violations.found:
        same = first.parameters == parameters
        violations.check(same, "parameters", f"must be those of trial {first.number}, which this one repeats")
    violations.raise_if_any()
    if origin is not None:
        run = continued(session, sweep, request.number, origin, run)
    trial = TrialRow(
        id=new_id("trial"),
        sweep_id=sweep.id,
        run_id=new_id("run"),
        number=request.number,
        configuration=configuration,
        repeat=repeat,
        observed=list(request.observed),
        origin={} if origin is None else asdict(origin),
        parameters=parameters,
        create_time=utc_now(),
        created_by=sweep.created_by,
    )
    tags = {**sweep.tags, "sweep": sweep.id, "trial": str(request.number)}
    name = f"{sweep.display_name or sweep.id} #{request.number}"[:200]
    row = new_run(run, display_name=name, tags=tags, actor=sweep.created_by)
    row.id, row.sweep_id, row.trial_id = trial.run_id, sweep.id, trial.id
    return trial, row
