"""Methods on hyperparameter sweeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.jobs import has_ended
from tunix_rt.client.operations import Call, Flow, Follow, Last, Pages, Steps, followed, new_request_id, paged, unary
from tunix_rt.client.sweep_specs import Domain, sweep_spec
from tunix_rt.v1 import runs_pb2, tuning_pb2
from tunix_rt.v1 import sweeps_pb2 as pb
from tunix_rt.v1.sweeps_pb2_grpc import SweepServiceStub as Stub
from tunix_rt.v1.tuning_pb2_grpc import TuningServiceStub


@dataclass(frozen=True)
class SweepProgress:
    """A sweep and all its trials at one moment."""

    sweep: pb.Sweep
    trials: tuple[pb.Trial, ...]


def _followed(id: str) -> Follow[SweepProgress]:
    trials: dict[int, pb.Trial] = {}

    def unpack(update: pb.WatchSweepResponse) -> SweepProgress:
        trials.update((trial.number, trial) for trial in update.trials)
        return SweepProgress(update.sweep, tuple(trials[number] for number in sorted(trials)))

    return followed(
        Stub,
        lambda stub: stub.WatchSweep,
        lambda last: pb.WatchSweepRequest(id=id),
        unpack,
        lambda progress: has_ended(progress.sweep),
    )


class Sweeps(Group[Mode]):
    """``client.sweeps``"""

    @one
    @staticmethod
    def create(
        spec: pb.SweepSpec | Mapping[str, Any] | None = None,
        *,
        base: runs_pb2.RunSpec | Mapping[str, Any] | None = None,
        parameters: Mapping[str, Domain] | Sequence[pb.Parameter] | None = None,
        algorithm: str | int | None = None,
        tpe: pb.TpeSettings | Mapping[str, Any] | None = None,
        scheduler: str | int | None = None,
        scheduling: pb.SchedulerSettings | Mapping[str, Any] | None = None,
        num_samples: int | None = None,
        repeats: int | None = None,
        max_concurrent_trials: int | None = None,
        objective: pb.Objective | Mapping[str, Any] | None = None,
        pools: Sequence[str] | None = None,
        trial_resources: Mapping[str, float] | None = None,
        seed: int | None = None,
        max_attempts: int | None = None,
        display_name: str = "",
        tags: Mapping[str, str] | None = None,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> Call[pb.Sweep]:
        """Queue a sweep; returns it with every default filled in.

        ``base`` is every trial's run spec; for ``parameters`` see `sweep_parameters`, and without any the default
        space for fine-tuning is searched. ``scheduling`` is of the schedulers that stop trials early, ``tpe`` of the
        algorithm TPE. ``repeats`` trials are made of each configuration, with seeds that follow each other; trials
        are dealt to ``pools`` in turn; ``trial_resources`` is what each takes of Ray's cluster while it waits.
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
                max_attempts=max_attempts,
            ),
            display_name=display_name,
            tags=tags,
            validate_only=validate_only,
        )
        return unary(Stub, lambda stub: stub.CreateSweep, request)

    @one
    @staticmethod
    def get(id: str) -> Call[pb.Sweep]:
        """One sweep."""
        return unary(Stub, lambda stub: stub.GetSweep, pb.GetSweepRequest(id=id))

    @many
    @staticmethod
    def list(*, filter: str = "", order_by: str = "", page_size: int = 0, limit: int | None = None) -> Pages[pb.Sweep]:
        """Sweeps; fields: id, display_name, state, create_time, tags.NAME."""
        request = pb.ListSweepsRequest(page_size=page_size, filter=filter, order_by=order_by)
        return paged(Stub, lambda stub: stub.ListSweeps, request, lambda page: page.sweeps, limit=limit)

    @one
    @staticmethod
    def cancel(id: str, *, message: str = "", request_id: str | None = None) -> Call[pb.Sweep]:
        """Cancel the sweep and every trial that has not ended."""
        request = pb.CancelSweepRequest(request_id=new_request_id(request_id), id=id, message=message)
        return unary(Stub, lambda stub: stub.CancelSweep, request)

    @one
    @staticmethod
    def pause(id: str, *, request_id: str | None = None) -> Call[pb.Sweep]:
        """Begin no more trials; the runs of those that were begun go on to their end."""
        request = pb.PauseSweepRequest(request_id=new_request_id(request_id), id=id)
        return unary(Stub, lambda stub: stub.PauseSweep, request)

    @one
    @staticmethod
    def resume(id: str, *, request_id: str | None = None) -> Call[pb.Sweep]:
        """Go on with a paused sweep."""
        request = pb.ResumeSweepRequest(request_id=new_request_id(request_id), id=id)
        return unary(Stub, lambda stub: stub.ResumeSweep, request)

    @one
    @staticmethod
    def extend(id: str, num_samples: int, *, request_id: str | None = None) -> Call[pb.Sweep]:
        """Have ``num_samples`` configurations (grid: repetitions) in all, more than before.

        A sweep that has SUCCEEDED or FAILED is queued again with what it knows.
        """
        request = pb.ExtendSweepRequest(request_id=new_request_id(request_id), id=id, num_samples=num_samples)
        return unary(Stub, lambda stub: stub.ExtendSweep, request)

    @one
    @staticmethod
    def results(id: str) -> Call[pb.SweepResults]:
        """Configurations, best first, with intervals, and which of them cannot be told from the best."""
        return unary(Stub, lambda stub: stub.GetSweepResults, pb.GetSweepResultsRequest(id=id))

    @one
    @staticmethod
    def importance(id: str) -> Flow[tuning_pb2.ComputeImportanceResponse]:
        """How much each parameter explains of the objective, by the tuner.

        Raises `FailedPrecondition` when fewer than 4 trials have an objective.
        """
        return Flow(lambda: _importance(id))

    @many
    @staticmethod
    def trials(id: str, *, order_by: str = "", page_size: int = 0, limit: int | None = None) -> Pages[pb.Trial]:
        """The sweep's trials; ``order_by`` is "number" (default), "objective" or "objective desc"."""
        request = pb.ListTrialsRequest(sweep_id=id, page_size=page_size, order_by=order_by)
        return paged(Stub, lambda stub: stub.ListTrials, request, lambda page: page.trials, limit=limit)

    @many
    @staticmethod
    def watch(id: str) -> Follow[SweepProgress]:
        """The sweep with its trials now and after every change until it has ended."""
        return _followed(id)

    @one
    @staticmethod
    def wait(
        id: str, *, on_change: Callable[[SweepProgress], object] | None = None, timeout_seconds: float | None = None
    ) -> Last[SweepProgress]:
        """The sweep with its trials when it has ended; raises `Transient` after the time."""
        return Last(_followed(id), on_change, timeout_seconds)


def _importance(id: str) -> Steps[tuning_pb2.ComputeImportanceResponse]:
    sweep: pb.Sweep = yield Sweeps.get(id)
    request = tuning_pb2.ComputeImportanceRequest(spec=sweep.spec)
    listing = pb.ListTrialsRequest(sweep_id=id, page_size=1000)
    while True:
        page: pb.ListTrialsResponse = yield unary(Stub, lambda stub: stub.ListTrials, listing)
        request.trials.extend(_scored(trial) for trial in page.trials if trial.HasField("objective"))
        listing.page_token = page.next_page_token
        if not listing.page_token:
            break
    answer: tuning_pb2.ComputeImportanceResponse = yield unary(
        TuningServiceStub, lambda stub: stub.ComputeImportance, request, peer="tuner", deadline_seconds=60.0
    )
    return answer


def _scored(trial: pb.Trial) -> pb.Trial:
    """What importance is computed from, and no more: a sweep may have very many trials."""
    return pb.Trial(
        number=trial.number,
        configuration=trial.configuration,
        repeat=trial.repeat,
        parameters=trial.parameters,
        state=trial.state,
        objective=trial.objective,
    )
