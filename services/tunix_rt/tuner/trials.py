"""A sweep's trials at the registry, for code without an event loop: Ray's driver and its actors.

Calls are retried indefinitely while the registry is unavailable; `Aborted` means that the lease is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

import grpc

from tunix_rt.contract.rules import Scalar
from tunix_rt.errors import Exhausted, Transient, TunixError, Unauthenticated
from tunix_rt.rpc.channel import open_sync_channel
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.search_space.messages import scalar
from tunix_rt.search_space.population import Origin
from tunix_rt.tuner.settings import TunerSettings
from tunix_rt.v1 import common_pb2, sweeps_pb2, sweeps_pb2_grpc
from tunix_rt.worker.grpc_jobs import lease_message
from tunix_rt.worker.jobs import Lease

T = TypeVar("T")
_FIRST_BACKOFF_SECONDS = 0.1
_LONGEST_BACKOFF_SECONDS = 2.0
_PAGE = 500
_ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


@dataclass(frozen=True)
class Trial:
    """A trial as the registry stores it. ``reported_value`` is its last intermediate value, at ``reported_step``.

    ``start`` is the training step of the checkpoint that it started from; 0 without one.
    """

    number: int
    parameters: Mapping[str, Scalar]
    observed: tuple[int, ...]
    state: str
    reason: str = ""
    message: str = ""
    objective: float | None = None
    reported_value: float | None = None
    reported_step: int = 0
    id: str = ""
    start: int = 0

    @property
    def ended(self) -> bool:
        return self.state in _ENDED

    @property
    def replaces(self) -> bool:
        """Whether it replaced another trial of a population."""
        return self.start > 0


@dataclass(frozen=True)
class Point:
    """A value that a trial reported while it trained."""

    step: int
    value: float


@dataclass(frozen=True)
class Update:
    """A trial's current state and the points since the previous update; the first update has all points."""

    trial: Trial
    points: tuple[Point, ...]


class TrialRegistry:
    """Trials of one sweep under one lease."""

    def __init__(self, channel: grpc.Channel, lease: Lease) -> None:
        self._channel = channel
        self._stub = sweeps_pb2_grpc.SweepServiceStub(channel)
        self._sweep_id = lease.job_id
        self._lease = lease_message(lease)

    @classmethod
    def connect(cls, lease: Lease) -> TrialRegistry:
        """Opens a channel. Address and token come from the environment, so that they are not in Ray's files."""
        settings = TunerSettings()
        channel = open_sync_channel(settings.registry_address, token=settings.token_source, tls=settings.tls)
        return cls(channel, lease)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def create(
        self,
        number: int,
        parameters: Mapping[str, Scalar],
        observed: tuple[int, ...] = (),
        origin: Origin | None = None,
    ) -> Trial:
        """Create the trial and its run. Idempotent: an existing trial of this number is returned."""
        request = sweeps_pb2.CreateTrialRequest(lease=self._lease, number=number, observed=observed)
        if origin is not None:
            request.origin.CopyFrom(sweeps_pb2.TrialOrigin(**asdict(origin)))
        request.parameters.update(dict(parameters))
        return _trial(_with_retries(lambda: self._stub.CreateTrial(request)))

    def stop(self, number: int, message: str) -> Trial:
        """Request cancellation of the trial's run with reason EARLY_STOPPED. No effect if it has ended."""
        request = sweeps_pb2.StopTrialRequest(lease=self._lease, number=number, message=message)
        return _trial(_with_retries(lambda: self._stub.StopTrial(request)))

    def list(self) -> list[Trial]:
        """All trials, in order of number."""
        trials: list[Trial] = []
        request = sweeps_pb2.ListTrialsRequest(sweep_id=self._sweep_id, page_size=_PAGE, order_by="number")
        while True:
            page = _with_retries(lambda: self._stub.ListTrials(request))
            trials.extend(_trial(trial) for trial in page.trials)
            if not page.next_page_token:
                return trials
            request.page_token = page.next_page_token

    def watch(self, number: int) -> Iterator[Update]:
        """Yields the trial now and after every change until it has ended. No step is reported twice."""
        request = sweeps_pb2.WatchTrialRequest(sweep_id=self._sweep_id, number=number)
        last = -1
        backoff = _Backoff()
        while True:
            stream = self._stub.WatchTrial(request)
            try:
                for answer in stream:
                    backoff.reset()
                    points = tuple(Point(point.step, point.value) for point in answer.points if point.step > last)
                    last = max([last, *(point.step for point in points)])
                    update = Update(_trial(answer.trial), points)
                    yield update
                    if update.trial.ended:
                        return
            except grpc.RpcError as error:
                _raise_unless_transient(error)
            finally:
                stream.cancel()
            backoff.wait()

    def get(self, number: int) -> Trial:
        """The trial's current state."""
        return next(self.watch(number)).trial

    def points(self, number: int) -> tuple[Point, ...]:
        """All points that a trial has reported so far."""
        return next(self.watch(number)).points


def _trial(found: sweeps_pb2.Trial) -> Trial:
    return Trial(
        number=found.number,
        parameters={
            name: value for name, given in found.parameters.fields.items() if (value := scalar(given)) is not None
        },
        observed=tuple(found.observed),
        state=common_pb2.JobState.Name(found.state).removeprefix("JOB_STATE_"),
        reason=common_pb2.Reason.Name(found.reason).removeprefix("REASON_") if found.reason else "",
        message=found.message,
        objective=found.objective if found.HasField("objective") else None,
        reported_value=found.reported_value if found.HasField("reported_value") else None,
        reported_step=found.reported_step,
        id=found.id,
        start=found.origin.parent_step,
    )


class _Backoff:
    def __init__(self) -> None:
        self._seconds = _FIRST_BACKOFF_SECONDS

    def wait(self) -> None:
        time.sleep(self._seconds)
        self._seconds = min(2 * self._seconds, _LONGEST_BACKOFF_SECONDS)

    def reset(self) -> None:
        self._seconds = _FIRST_BACKOFF_SECONDS


def _with_retries(call: Callable[[], T]) -> T:
    backoff = _Backoff()
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            _raise_unless_transient(error)
        backoff.wait()


def _raise_unless_transient(error: grpc.RpcError) -> None:
    """Raise ``error`` as one of our errors, unless a retry may succeed."""
    translated: TunixError = from_rpc_error(error)
    if not isinstance(translated, Transient | Exhausted | Unauthenticated):
        raise translated from error
