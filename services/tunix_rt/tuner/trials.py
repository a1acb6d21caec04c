"""A sweep's trials at the registry, for code without an event loop (the child process and Ray's actors).

A trial is carried out by creating it, which creates its run, and waiting for its end. Creating it again is no work, so
the same call replays what an earlier attempt has finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import grpc

from tunix_rt.errors import Exhausted, Transient
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.search_space.rules import Scalar
from tunix_rt.v1 import common_pb2, runs_pb2, runs_pb2_grpc, sweeps_pb2, sweeps_pb2_grpc

T = TypeVar("T")
TERMINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
_POLL_SECONDS = 0.4
_BACKOFF_SECONDS = 0.5
_RUN_TERMINAL = (common_pb2.JOB_STATE_SUCCEEDED, common_pb2.JOB_STATE_FAILED, common_pb2.JOB_STATE_CANCELLED)


@dataclass(frozen=True)
class Lease:
    """The fencing token of one attempt at a sweep."""

    job_id: str
    attempt_id: str
    epoch: int

    def document(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Trial:
    """A trial as the registry stores it. ``objective`` is set when it has SUCCEEDED."""

    number: int
    run_id: str
    state: str
    objective: float | None
    message: str


class TrialRegistry:
    """Creates and awaits trials under one lease. A registry that is away is waited for; `Aborted` ends everything."""

    def __init__(self, channel: grpc.Channel, lease: Lease) -> None:
        self._sweeps = sweeps_pb2_grpc.SweepServiceStub(channel)
        self._runs = runs_pb2_grpc.RunServiceStub(channel)
        self._lease = common_pb2.Lease(job_id=lease.job_id, attempt_id=lease.attempt_id, epoch=lease.epoch)

    def carry_out(self, number: int, parameters: Mapping[str, Scalar]) -> Trial:
        """Create the trial if need be, and return it when it has ended."""
        trial = self.create(number, parameters)
        if trial.state not in TERMINAL:
            self._await_run(trial.run_id)
            trial = self.create(number, parameters)
        while trial.state not in TERMINAL:
            # The run has ended, its evaluation has not; this also notices a lost lease.
            time.sleep(_POLL_SECONDS)
            trial = self.create(number, parameters)
        return trial

    def create(self, number: int, parameters: Mapping[str, Scalar]) -> Trial:
        """The trial with this number, created with its run unless it exists. Raises what the registry refuses."""
        request = sweeps_pb2.CreateTrialRequest(lease=self._lease, number=number)
        request.parameters.update(dict(parameters))
        found = _patiently(lambda: self._sweeps.CreateTrial(request))
        return Trial(
            number=found.number,
            run_id=found.run_id,
            state=common_pb2.JobState.Name(found.state).removeprefix("JOB_STATE_"),
            objective=found.objective if found.HasField("objective") else None,
            message=found.message,
        )

    def _await_run(self, run_id: str) -> None:
        def watch() -> None:
            for update in self._runs.WatchRun(runs_pb2.WatchRunRequest(id=run_id)):
                if update.run.state in _RUN_TERMINAL:
                    return

        _patiently(watch)


def _patiently(call: Callable[[], T]) -> T:
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            translated = from_rpc_error(error)
            if not isinstance(translated, Transient | Exhausted):
                raise translated from error
        time.sleep(_BACKOFF_SECONDS)
