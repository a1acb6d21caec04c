"""A registry behind real gRPC whose trials take a moment and whose objectives can be worked out by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from tunix_rt.errors import Aborted, NotFound
from tunix_rt.rpc.server import serve_grpc
from tunix_rt.rpc.settings import ServerSettings
from tunix_rt.v1 import common_pb2, runs_pb2, runs_pb2_grpc, sweeps_pb2, sweeps_pb2_grpc

RUNNING = common_pb2.JOB_STATE_RUNNING
SUCCEEDED = common_pb2.JOB_STATE_SUCCEEDED
FAILED = common_pb2.JOB_STATE_FAILED


class FakeRegistry(sweeps_pb2_grpc.SweepServiceServicer, runs_pb2_grpc.RunServiceServicer):
    """A trial's run takes ``run_seconds``, its evaluation as long again; its objective is learning_rate × 10."""

    def __init__(self) -> None:
        self.address = ""
        self.spec = sweeps_pb2.SweepSpec(
            parameters=[
                sweeps_pb2.Parameter(name="learning_rate", uniform=sweeps_pb2.Uniform(low=0.01, high=0.09)),
            ],
            algorithm=sweeps_pb2.SEARCH_ALGORITHM_RANDOM,
            num_samples=5,
            max_concurrent_trials=2,
            seed=7,
            objective=sweeps_pb2.Objective(metric="primary_score", mode=sweeps_pb2.OBJECTIVE_MODE_MAX),
        )
        self.run_seconds = 0.2
        self.failing: set[int] = set()
        self.trials: dict[int, sweeps_pb2.Trial] = {}
        self.started: dict[int, float] = {}
        self.created: list[int] = []
        self.replayed: list[int] = []
        self.peak = 0
        self.progress: list[tuple[int, int]] = []
        self.completion: sweeps_pb2.CompleteSweepRequest | None = None
        self.released = 0
        self.cancel_requested = False
        self.lost = False

    async def ClaimSweep(self, request, context):  # type: ignore[no-untyped-def]
        if request.sweep_id != "sweep-1":
            raise NotFound(f"there is no sweep {request.sweep_id!r}")
        return sweeps_pb2.ClaimSweepResponse(
            granted=True,
            lease=common_pb2.Lease(job_id="sweep-1", attempt_id="att-1", epoch=1),
            sweep=sweeps_pb2.Sweep(id="sweep-1", spec=self.spec),
            trials=list(self.trials.values()),
        )

    async def GetSweep(self, request, context):  # type: ignore[no-untyped-def]
        self._settle()
        states = [trial.state for trial in self.trials.values()]
        return sweeps_pb2.Sweep(id="sweep-1", n_succeeded=states.count(SUCCEEDED), n_failed=states.count(FAILED))

    async def HeartbeatSweep(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        self.progress.append((request.progress.done, request.progress.total))
        return sweeps_pb2.HeartbeatSweepResponse(
            lease=request.lease,
            cancel_requested=self.cancel_requested,
            cancel_reason=common_pb2.REASON_USER_CANCELLED if self.cancel_requested else 0,
        )

    async def CreateTrial(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        self._settle()
        parameters: dict[str, Any] = json_format.MessageToDict(request.parameters)
        if request.number not in self.trials:
            self.created.append(request.number)
            self.started[request.number] = time.monotonic()
            self.trials[request.number] = sweeps_pb2.Trial(
                id=f"trial-{request.number}",
                sweep_id="sweep-1",
                number=request.number,
                run_id=f"run-{request.number}",
                state=RUNNING,
            )
            self.trials[request.number].parameters.update(parameters)
            unfinished = sum(trial.state == RUNNING for trial in self.trials.values())
            self.peak = max(self.peak, unfinished)
        else:
            self.replayed.append(request.number)
            assert json_format.MessageToDict(self.trials[request.number].parameters) == parameters
        return self.trials[request.number]

    async def WatchRun(self, request, context):  # type: ignore[no-untyped-def]
        number = int(request.id.split("-")[1])
        yield runs_pb2.WatchRunResponse(run=runs_pb2.Run(id=request.id, state=RUNNING))
        while time.monotonic() < self.started[number] + self.run_seconds:
            await asyncio.sleep(0.02)
        yield runs_pb2.WatchRunResponse(run=runs_pb2.Run(id=request.id, state=SUCCEEDED))

    async def CompleteSweep(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        self._settle()
        self.completion = request
        return sweeps_pb2.Sweep(id="sweep-1", state=request.state)

    async def ReleaseSweep(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        self.released += 1
        return sweeps_pb2.ReleaseSweepResponse()

    def _check(self) -> None:
        if self.lost:
            raise Aborted("epoch 1 is over")

    def _settle(self) -> None:
        for number, trial in self.trials.items():
            if trial.state == RUNNING and time.monotonic() > self.started[number] + 2 * self.run_seconds:
                if number in self.failing:
                    trial.state, trial.message = FAILED, "the loss diverged"
                else:
                    trial.state = SUCCEEDED
                    trial.objective = 10 * trial.parameters["learning_rate"]


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    fake = FakeRegistry()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    def register(server: grpc.aio.Server) -> Sequence[str]:
        sweeps_pb2_grpc.add_SweepServiceServicer_to_server(fake, server)
        runs_pb2_grpc.add_RunServiceServicer_to_server(fake, server)
        return ()

    serving = asyncio.create_task(
        serve_grpc(
            register,
            ServerSettings(listen="127.0.0.1:0", grace_seconds=0),
            authorizer=None,
            ready=None,
            stop=stop,
            on_bound=bound.set_result,
        )
    )
    fake.address = f"127.0.0.1:{await asyncio.wait_for(bound, 10)}"
    yield fake
    stop.set()
    await asyncio.wait_for(serving, 10)
