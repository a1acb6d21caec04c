"""Hyperparameter sweeps and their trials; every trial is an ordinary run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic

from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import (
    Call,
    Flow,
    Follow,
    Last,
    Many,
    One,
    Pages,
    Steps,
    as_message,
    followed,
    new_request_id,
    paged,
    unary,
)
from tunix_rt.client.records import Open, Resource
from tunix_rt.client.resources.jobs import Job, Progress
from tunix_rt.client.resources.runs import Run, Runs, RunSpec
from tunix_rt.client.resources.sweep_records import Configuration, Importance, Parameter, SweepSpec, TrialOrigin
from tunix_rt.client.sweep_specs import Domain, sweep_spec
from tunix_rt.v1 import runs_pb2, tuning_pb2
from tunix_rt.v1 import sweeps_pb2 as pb
from tunix_rt.v1.sweeps_pb2_grpc import SweepServiceStub as Stub
from tunix_rt.v1.tuning_pb2_grpc import TuningServiceStub


class Trial(Job[Mode], of=pb.Trial):
    """A trial: a run with the parameters that the search proposed. ``objective`` is None until it is known."""

    _shown = ("id", "number", "state", "reason", "objective", "parameters")

    sweep_id: str
    number: int
    parameters: dict[str, Any]
    run_id: str
    objective: float | None
    ci_low: float | None
    ci_high: float | None
    evaluation_id: str
    configuration: int
    repeat: int
    reported_value: float | None
    reported_step: int
    observed: tuple[int, ...]
    steps: int
    origin: TrialOrigin | None

    @one
    def run(self) -> One[Run[Mode]]:
        """The run that carries it out."""
        return Runs.get(self.run_id)


class Sweep(Job[Mode], of=pb.Sweep):
    """A hyperparameter sweep."""

    _shown = ("id", "display_name", "state", "reason", "message", "best_trial_id")

    display_name: str
    spec: SweepSpec
    progress: Progress
    start_time: datetime | None
    tags: dict[str, str]
    etag: str
    attempts: int
    best_trial_id: str
    n_trials: int
    n_succeeded: int
    n_failed: int
    created_by: str
    paused: bool
    n_stopped: int
    trial_count: int
    project: str
    warning: str
    archive_time: datetime | None

    @one
    def refresh(self) -> One[Sweep[Mode]]:
        """The sweep as it is now."""
        return Sweeps.get(self.id)

    @one
    def wait(
        self,
        *,
        on_change: Callable[[SweepProgress[Mode]], object] | None = None,
        timeout_seconds: float | None = None,
    ) -> One[Sweep[Mode]]:
        """The sweep when it has ended; see `Sweeps.wait`."""
        return _ended(self.id, on_change, timeout_seconds)

    @many
    def watch(self) -> Many[SweepProgress[Mode]]:
        """The sweep with its trials now and after every change until it has ended."""
        return _followed(self.id)

    @one
    def cancel(self, *, message: str = "") -> One[Sweep[Mode]]:
        """Cancel the sweep and every trial that has not ended."""
        return Sweeps.cancel(self.id, message=message)

    @one
    def retry(self, *, message: str = "") -> One[Sweep[Mode]]:
        """Try it again as it was read; see `Sweeps.retry`. Raises `Aborted` when it has changed since."""
        return Sweeps.retry(self.id, etag=self.etag, message=message)

    @one
    def pause(self) -> One[Sweep[Mode]]:
        """Start no more trials; see `Sweeps.pause`."""
        return Sweeps.pause(self.id)

    @one
    def resume(self) -> One[Sweep[Mode]]:
        """Continue a paused sweep."""
        return Sweeps.resume(self.id)

    @one
    def extend(self, num_samples: int) -> One[Sweep[Mode]]:
        """Ask for more configurations; see `Sweeps.extend`."""
        return Sweeps.extend(self.id, num_samples)

    @many
    def trials(self, *, order_by: str = "", limit: int | None = None) -> Many[Trial[Mode]]:
        """Its trials; see `Sweeps.trials`."""
        return Sweeps.trials(self.id, order_by=order_by, limit=limit)

    @one
    def results(self) -> One[SweepResults[Mode]]:
        """Its configurations, best first; see `Sweeps.results`."""
        return Sweeps.results(self.id)

    @one
    def importance(self) -> One[Importance]:
        """How much each parameter matters; see `Sweeps.importance`."""
        return Sweeps.importance(self.id)


class SweepResults(Resource[Mode], of=pb.SweepResults):
    """Configurations, best first, and whether there is a winner (``statement``)."""

    _shown = ("statement", "best_trial_id", "n_tied")

    sweep: Sweep[Mode]
    configurations: tuple[Configuration, ...]
    best_trial_id: str
    n_tied: int
    statement: str
    steps: int


@dataclass(frozen=True)
class SweepProgress(Generic[Mode]):
    """A sweep and all its trials at one moment, by number."""

    sweep: Sweep[Mode]
    trials: tuple[Trial[Mode], ...]


def _followed(id: str) -> Follow[SweepProgress[Any]]:
    trials: dict[int, Trial[Any]] = {}

    def unpack(update: pb.WatchSweepResponse, runner: Any) -> SweepProgress[Any]:
        trials.update((trial.number, Trial(trial, runner)) for trial in update.trials)
        return SweepProgress(Sweep(update.sweep, runner), tuple(trials[number] for number in sorted(trials)))

    return followed(
        Stub,
        lambda stub: stub.WatchSweep,
        lambda last: pb.WatchSweepRequest(id=id),
        unpack,
        lambda progress: progress.sweep.has_ended,
    )


def _ended(id: str, on_change: Callable[[Any], object] | None, timeout_seconds: float | None) -> Flow[Sweep[Any]]:
    def steps() -> Steps[Sweep[Any]]:
        last: SweepProgress[Any] = yield Last(_followed(id), on_change, timeout_seconds)
        return last.sweep

    return Flow(steps)


class Sweeps(Group[Mode]):
    """``client.sweeps``"""

    @one
    @staticmethod
    def create(
        spec: SweepSpec | pb.SweepSpec | Mapping[str, Any] | None = None,
        *,
        base: RunSpec | runs_pb2.RunSpec | Mapping[str, Any] | None = None,
        parameters: Mapping[str, Domain] | Sequence[Parameter | pb.Parameter] | None = None,
        algorithm: str | int | None = None,
        tpe: Open | pb.TpeSettings | Mapping[str, Any] | None = None,
        scheduler: str | int | None = None,
        scheduling: Open | pb.SchedulerSettings | Mapping[str, Any] | None = None,
        num_samples: int | None = None,
        repeats: int | None = None,
        max_concurrent_trials: int | None = None,
        objective: Open | pb.Objective | Mapping[str, Any] | None = None,
        pools: Sequence[str] | None = None,
        trial_resources: Mapping[str, float] | None = None,
        seed: int | None = None,
        max_attempts: int | None = None,
        queue_deadline_seconds: int | None = None,
        display_name: str = "",
        tags: Mapping[str, str] | None = None,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> Call[Sweep[Mode]]:
        """Queue a sweep; returns it with every default filled in.

        ``base`` is every trial's run spec; for ``parameters`` see `sweep_parameters`, and without any the default
        space for fine-tuning is searched. ``scheduling`` is of the schedulers that stop trials early, ``tpe`` of the
        algorithm TPE. ``repeats`` trials are made of each configuration, with consecutive seeds. With several
        ``pools``, trials are assigned round-robin. ``trial_resources`` is what each takes of Ray's cluster while it
        waits.
        """
        request = pb.CreateSweepRequest(
            request_id=new_request_id(request_id),
            spec=sweep_spec(
                spec,
                base=base,
                parameters=parameters,
                algorithm=algorithm,
                tpe=tpe,
                scheduler=scheduler,
                scheduling=scheduling,
                num_samples=num_samples,
                repeats=repeats,
                max_concurrent_trials=max_concurrent_trials,
                objective=objective,
                pools=pools,
                trial_resources=trial_resources,
                seed=seed,
                queue_deadline_seconds=queue_deadline_seconds,
                max_attempts=max_attempts,
            ),
            display_name=display_name,
            tags=tags,
            validate_only=validate_only,
        )
        return unary(Stub, lambda stub: stub.CreateSweep, request, Sweep)

    @one
    @staticmethod
    def get(id: str) -> Call[Sweep[Mode]]:
        """One sweep."""
        return unary(Stub, lambda stub: stub.GetSweep, pb.GetSweepRequest(id=id), Sweep)

    @many
    @staticmethod
    def list(
        *, filter: str = "", order_by: str = "", page_size: int = 0, limit: int | None = None
    ) -> Pages[Sweep[Mode]]:
        """Sweeps; fields: id, display_name, state, create_time, tags.NAME."""
        request = pb.ListSweepsRequest(page_size=page_size, filter=filter, order_by=order_by)
        return paged(
            Stub,
            lambda stub: stub.ListSweeps,
            request,
            lambda page, runner: Sweep.each(page.sweeps, runner),
            limit=limit,
        )

    @one
    @staticmethod
    def cancel(id: str, *, message: str = "", request_id: str | None = None) -> Call[Sweep[Mode]]:
        """Cancel the sweep and every trial that has not ended."""
        request = pb.CancelSweepRequest(request_id=new_request_id(request_id), id=id, message=message)
        return unary(Stub, lambda stub: stub.CancelSweep, request, Sweep)

    @one
    @staticmethod
    def retry(id: str, *, etag: str = "", message: str = "", request_id: str | None = None) -> Call[Sweep[Mode]]:
        """Queue a sweep that has FAILED or was CANCELLED once more; it keeps the trials that it has.

        Its history stays. Raises `FailedPrecondition` for one in another state, and `Aborted` for a stale ``etag``.
        """
        request = pb.RetrySweepRequest(request_id=new_request_id(request_id), id=id, etag=etag, message=message)
        return unary(Stub, lambda stub: stub.RetrySweep, request, Sweep)

    @one
    @staticmethod
    def pause(id: str, *, request_id: str | None = None) -> Call[Sweep[Mode]]:
        """Start no more trials; the runs of those that were started continue to their end."""
        request = pb.PauseSweepRequest(request_id=new_request_id(request_id), id=id)
        return unary(Stub, lambda stub: stub.PauseSweep, request, Sweep)

    @one
    @staticmethod
    def resume(id: str, *, request_id: str | None = None) -> Call[Sweep[Mode]]:
        """Continue a paused sweep."""
        request = pb.ResumeSweepRequest(request_id=new_request_id(request_id), id=id)
        return unary(Stub, lambda stub: stub.ResumeSweep, request, Sweep)

    @one
    @staticmethod
    def extend(id: str, num_samples: int, *, request_id: str | None = None) -> Call[Sweep[Mode]]:
        """Raise ``num_samples``, the number of configurations (grid: repetitions) in all.

        A sweep that has SUCCEEDED or FAILED is queued again and keeps its trials.
        """
        request = pb.ExtendSweepRequest(request_id=new_request_id(request_id), id=id, num_samples=num_samples)
        return unary(Stub, lambda stub: stub.ExtendSweep, request, Sweep)

    @one
    @staticmethod
    def results(id: str) -> Call[SweepResults[Mode]]:
        """Configurations, best first, with intervals, and which of them cannot be told from the best."""
        return unary(Stub, lambda stub: stub.GetSweepResults, pb.GetSweepResultsRequest(id=id), SweepResults)

    @one
    @staticmethod
    def importance(id: str) -> Flow[Importance]:
        """How much of the objective's variance each parameter explains, computed by the tuner.

        Raises `FailedPrecondition` when fewer than 4 trials have an objective.
        """
        return Flow(lambda: _importance(id))

    @many
    @staticmethod
    def trials(id: str, *, order_by: str = "", page_size: int = 0, limit: int | None = None) -> Pages[Trial[Mode]]:
        """The sweep's trials; ``order_by`` is "number" (default), "objective" or "objective desc"."""
        request = pb.ListTrialsRequest(sweep_id=id, page_size=page_size, order_by=order_by)
        return paged(
            Stub,
            lambda stub: stub.ListTrials,
            request,
            lambda page, runner: Trial.each(page.trials, runner),
            limit=limit,
        )

    @many
    @staticmethod
    def watch(id: str) -> Follow[SweepProgress[Mode]]:
        """The sweep with its trials now and after every change until it has ended."""
        return _followed(id)

    @one
    @staticmethod
    def wait(
        id: str,
        *,
        on_change: Callable[[SweepProgress[Mode]], object] | None = None,
        timeout_seconds: float | None = None,
    ) -> Flow[Sweep[Mode]]:
        """The sweep when it has ended; ``on_change`` gets it with its trials at every change.

        Raises `Transient` after ``timeout_seconds``.
        """
        return _ended(id, on_change, timeout_seconds)


def _importance(id: str) -> Steps[Importance]:
    sweep: pb.Sweep = yield unary(Stub, lambda stub: stub.GetSweep, pb.GetSweepRequest(id=id), as_message)
    request = tuning_pb2.ComputeImportanceRequest(spec=sweep.spec)
    listing = pb.ListTrialsRequest(sweep_id=id, page_size=1000)
    while True:
        page: pb.ListTrialsResponse = yield unary(Stub, lambda stub: stub.ListTrials, listing, as_message)
        request.trials.extend(_scored(trial) for trial in page.trials if trial.HasField("objective"))
        listing.page_token = page.next_page_token
        if not listing.page_token:
            break
    answer: Importance = yield unary(
        TuningServiceStub,
        lambda stub: stub.ComputeImportance,
        request,
        Importance,
        peer="tuner",
        deadline_seconds=60.0,
    )
    return answer


def _scored(trial: pb.Trial) -> pb.Trial:
    """Only what importance is computed from: a sweep may have very many trials."""
    return pb.Trial(
        number=trial.number,
        configuration=trial.configuration,
        repeat=trial.repeat,
        parameters=trial.parameters,
        state=trial.state,
        objective=trial.objective,
    )
