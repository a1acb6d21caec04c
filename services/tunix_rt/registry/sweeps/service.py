"""SweepService: for clients, creating, reading, changing, cancelling and following sweeps, and their results; for
tuners, making, following and stopping trials.

Every write of a tuner is checked against the newest lease, in the transaction that writes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from google.protobuf import json_format
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.bus.topology import TUNE_SUBJECT
from tunix_rt.contract.identifiers import MAX_MESSAGE
from tunix_rt.errors import Violations
from tunix_rt.registry import quotas
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.archive import archived_field
from tunix_rt.registry.kernel.calls import Context, Servicer, caller, checked_id
from tunix_rt.registry.kernel.fields import check_text
from tunix_rt.registry.kernel.filters import FilterField, Kind, state_field
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.messages import check_retry, read_lease
from tunix_rt.registry.kernel.pages import Key, by_create_time
from tunix_rt.registry.kernel.pools import UnservedPools
from tunix_rt.registry.kernel.projects import own_project
from tunix_rt.registry.kernel.states import JobState, is_terminal
from tunix_rt.registry.runs.messages import metric_message
from tunix_rt.registry.sweeps import checks, rules, trials
from tunix_rt.registry.sweeps.messages import trial_message, trial_messages
from tunix_rt.registry.sweeps.progress import trial_with_report
from tunix_rt.registry.sweeps.results import results_message, results_of
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow, sweep_spec
from tunix_rt.search_space.space import MAX_TRIALS
from tunix_rt.v1 import sweeps_pb2 as pb
from tunix_rt.v1 import sweeps_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["SweepService"].full_name

_SWEEPS: Final = Listing(
    pb.ListSweepsResponse,
    SweepRow,
    orders={
        **by_create_time(SweepRow),
        "display_name": (Key(col(SweepRow.display_name)), Key(col(SweepRow.id))),
    },
    fields={
        "id": FilterField(SweepRow.id),
        "display_name": FilterField(SweepRow.display_name),
        "state": state_field(SweepRow.state, JobState),
        "project": FilterField(SweepRow.project),
        **archived_field(SweepRow),
        "create_time": FilterField(SweepRow.create_time, Kind.TIME),
        "tags": FilterField(SweepRow.tags, Kind.TAGS),
    },
    encode_all=rules.sweeps_with_trials,
)
_HIGHEST: Final = 1.7e308
_TRIAL_NUMBER: Final = Key(col(TrialRow.number))
_TRIALS: Final = Listing(
    pb.ListTrialsResponse,
    TrialRow,
    # Trials without an objective come last.
    orders={
        "number": (_TRIAL_NUMBER,),
        "objective desc": (Key(func.coalesce(col(TrialRow.objective), -_HIGHEST), descending=True), _TRIAL_NUMBER),
        "objective": (Key(func.coalesce(col(TrialRow.objective), _HIGHEST)), _TRIAL_NUMBER),
    },
    encode_all=trial_messages,
)
# Of one who watches, between two looks: the trials of a large sweep move many times a second.
_WATCH_REST_SECONDS: Final = 0.2
# Only what another registry process commits is found so late; a thousand trials may be watched at once.
_TRIAL_POLL_SECONDS: Final = 5.0


class SweepServicer(Servicer, sweeps_pb2_grpc.SweepServiceServicer):
    """Implements ``tunix_rt.v1.SweepService``."""

    async def CreateSweep(self, request: pb.CreateSweepRequest, context: Context) -> pb.Sweep:
        actor = caller()

        def create(session: Session) -> SweepRow:
            sweep = rules.new_sweep(
                checks.resolve_sweep(session, request),
                display_name=request.display_name,
                tags=request.tags,
                actor=actor,
            )
            sweep.project = own_project(session)
            if request.validate_only:
                return sweep
            quotas.check_queued_jobs(session, self.settings)
            return rules.create_sweep(session, sweep)

        return _shown(await self.mutate(request, pb.Sweep, create), self.unserved)

    async def GetSweep(self, request: pb.GetSweepRequest, context: Context) -> pb.Sweep:
        checked_id(request.id)
        found = await self.read(lambda session: rules.sweep_with_trials(session, rules.get_sweep(session, request.id)))
        return _shown(found, self.unserved)

    async def ListSweeps(self, request: pb.ListSweepsRequest, context: Context) -> pb.ListSweepsResponse:
        found = await self.read(lambda session: _SWEEPS.answer(session, request))
        for sweep in found.sweeps:
            _shown(sweep, self.unserved)
        return found

    async def CancelSweep(self, request: pb.CancelSweepRequest, context: Context) -> pb.Sweep:
        checked_id(request.id)
        violations = Violations()
        check_text(violations, request.message, "message", 2000)
        violations.raise_if_any()
        actor = caller()
        return await self.mutate(
            request,
            pb.Sweep,
            lambda session: rules.cancel_sweep(session, request.id, message=request.message, actor=actor),
        )

    async def RetrySweep(self, request: pb.RetrySweepRequest, context: Context) -> pb.Sweep:
        check_retry(request)
        actor = caller()

        def retry(session: Session) -> SweepRow:
            quotas.check_queued_jobs(session, self.settings)
            return rules.retry_sweep(session, request.id, given_etag=request.etag, message=request.message, actor=actor)

        return await self.mutate(request, pb.Sweep, retry)

    async def PauseSweep(self, request: pb.PauseSweepRequest, context: Context) -> pb.Sweep:
        checked_id(request.id)
        return await self.mutate(request, pb.Sweep, lambda session: rules.pause_sweep(session, request.id))

    async def ResumeSweep(self, request: pb.ResumeSweepRequest, context: Context) -> pb.Sweep:
        checked_id(request.id)
        return await self.mutate(request, pb.Sweep, lambda session: rules.resume_sweep(session, request.id))

    async def ExtendSweep(self, request: pb.ExtendSweepRequest, context: Context) -> pb.Sweep:
        checked_id(request.id)
        actor = caller()
        return await self.mutate(
            request,
            pb.Sweep,
            lambda session: rules.extend_sweep(session, request.id, request.num_samples, actor=actor),
        )

    async def GetSweepResults(self, request: pb.GetSweepResultsRequest, context: Context) -> pb.SweepResults:
        checked_id(request.id)

        def read(session: Session) -> pb.SweepResults:
            sweep = rules.get_sweep(session, request.id)
            return results_message(rules.sweep_with_trials(session, sweep), results_of(session, sweep))

        return await self.read(read)

    async def ListTrials(self, request: pb.ListTrialsRequest, context: Context) -> pb.ListTrialsResponse:
        checked_id(request.sweep_id, "sweep_id")

        def read(session: Session) -> pb.ListTrialsResponse:
            rules.get_sweep(session, request.sweep_id)
            statement = select(TrialRow).where(col(TrialRow.sweep_id) == request.sweep_id)
            return _TRIALS.answer(session, request, statement, request.sweep_id)

        return await self.read(read)

    async def WatchSweep(self, request: pb.WatchSweepRequest, context: Context) -> AsyncIterator[pb.WatchSweepResponse]:
        checked_id(request.id)
        watch = _SweepWatch(request.id, self.unserved)
        async for response in self.follow([request.id], watch.look, rest_seconds=_WATCH_REST_SECONDS):
            yield response

    async def CreateTrial(self, request: pb.CreateTrialRequest, context: Context) -> pb.Trial:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        violations.check(0 <= request.number < MAX_TRIALS, "number", f"must be in [0, {MAX_TRIALS})")
        checks.check_observed(request.observed, request.number, violations)
        violations.raise_if_any()
        suggested = json_format.MessageToDict(request.parameters)

        def create(session: Session) -> pb.Trial:
            sweep = leases.check(session, SweepRow, lease)
            trial = trials.find_trial(session, sweep.id, request.number)
            if trial is None:
                trials.check_begins_trials(sweep)
                trial = trials.create_trial(session, sweep, *trials.new_trial(session, sweep, request, suggested))
            return trial_with_report(session, trial)

        return await self.write(create)

    async def WatchTrial(self, request: pb.WatchTrialRequest, context: Context) -> AsyncIterator[pb.WatchTrialResponse]:
        checked_id(request.sweep_id, "sweep_id")
        found, metric = await self.read(lambda session: _watched(session, request))
        step = -1
        last: pb.WatchTrialResponse | None = None

        def read(session: Session) -> tuple[pb.WatchTrialResponse, bool]:
            nonlocal step, last
            trial, report = trials.reported_trial(session, found.id, metric)
            message = trial_message(trial, report)
            points = trials.points_after(session, trial.run_id, metric, step) if metric else ()
            if last is None or points or message != last.trial:
                last = pb.WatchTrialResponse(trial=message, points=map(metric_message, points))
                step = points[-1].step if points else step
            return last, is_terminal(trial)

        async for response in self.follow([found.id, found.run_id], read, poll_seconds=_TRIAL_POLL_SECONDS):
            yield response

    async def StopTrial(self, request: pb.StopTrialRequest, context: Context) -> pb.Trial:
        violations = Violations()
        lease = read_lease(request.lease, violations)
        check_text(violations, request.message, "message", MAX_MESSAGE)
        violations.raise_if_any()

        def stop(session: Session) -> pb.Trial:
            sweep = leases.check(session, SweepRow, lease)
            return trial_with_report(session, trials.stop_trial(session, sweep, request.number, request.message))

        return await self.write(stop)


class _SweepWatch:
    """One watcher's view. A trial that has ended does not change any more and is not read again."""

    def __init__(self, sweep_id: str, unserved: UnservedPools) -> None:
        self._sweep_id, self._unserved = sweep_id, unserved
        # By number: trials that may still change, as they were told; None is one that does not exist yet.
        self._open: dict[int, pb.Trial | None] = {}
        self._next = 0
        self._last = pb.WatchSweepResponse()

    def look(self, session: Session) -> tuple[pb.WatchSweepResponse, bool]:
        """The sweep with the trials that are new or have changed since the last look, and whether it has ended.

        The response of the last look, when nothing is new.
        """
        row = rules.get_sweep(session, self._sweep_id)
        sweep = _shown(rules.sweep_with_trials(session, row), self._unserved)
        trials = self._changed(session)
        if trials or sweep != self._last.sweep:
            self._last = pb.WatchSweepResponse(sweep=sweep, trials=trials)
        return self._last, is_terminal(row)

    def _changed(self, session: Session) -> list[pb.Trial]:
        number = col(TrialRow.number)
        rows = session.scalars(
            select(TrialRow)
            .where(col(TrialRow.sweep_id) == self._sweep_id, or_(number >= self._next, number.in_(self._open)))
            .order_by(number)
        ).all()
        changed = [trial for trial in trial_messages(session, rows) if trial != self._open.get(trial.number)]
        if rows and rows[-1].number >= self._next:
            self._open |= dict.fromkeys(range(self._next, rows[-1].number + 1))
            self._next = rows[-1].number + 1
        self._open |= {trial.number: trial for trial in changed}
        for row in rows:
            if is_terminal(row):
                del self._open[row.number]
        return changed


def _shown(sweep: pb.Sweep, unserved: UnservedPools) -> pb.Sweep:
    """The sweep, with what is known of who tunes. While it is paused it waits for nobody."""
    if not sweep.paused:
        unserved.warn(sweep, TUNE_SUBJECT)
    return sweep


def _watched(session: Session, request: pb.WatchTrialRequest) -> tuple[TrialRow, str]:
    """The trial, and the metric that its sweep's scheduler compares."""
    trial = trials.get_trial(session, request.sweep_id, request.number)
    return trial, sweep_spec(rules.get_sweep(session, request.sweep_id)).scheduling.metric
