"""A registry behind real gRPC whose trials take a moment and whose objectives can be worked out by hand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from tunix_rt.errors import Aborted, FailedPrecondition, InvalidInput, NotFound
from tunix_rt.rpc.server import serve_grpc
from tunix_rt.rpc.settings import ServerSettings
from tunix_rt.v1 import common_pb2, sweeps_pb2, sweeps_pb2_grpc

RUNNING = common_pb2.JOB_STATE_RUNNING
SUCCEEDED = common_pb2.JOB_STATE_SUCCEEDED
FAILED = common_pb2.JOB_STATE_FAILED
CANCELLED = common_pb2.JOB_STATE_CANCELLED


def tenfold(parameters: Mapping[str, Any]) -> float:
    return 10 * float(parameters["learning_rate"])


class FakeRegistry(sweeps_pb2_grpc.SweepServiceServicer):
    """Every trial reports ``points`` and ends after ``run_seconds``; its objective is learning_rate × 10."""

    def __init__(self) -> None:
        self.address = ""
        self.spec = sweeps_pb2.SweepSpec(
            parameters=[
                sweeps_pb2.Parameter(name="learning_rate", uniform=sweeps_pb2.Uniform(low=0.01, high=0.09)),
            ],
            algorithm=sweeps_pb2.SEARCH_ALGORITHM_RANDOM,
            scheduler=sweeps_pb2.TRIAL_SCHEDULER_FIFO,
            num_samples=5,
            repeats=1,
            max_concurrent_trials=2,
            seed=7,
            objective=sweeps_pb2.Objective(metric="primary_score", mode=sweeps_pb2.OBJECTIVE_MODE_MAX),
        )
        self.run_seconds = 0.2
        # No trial trains before the first so many are watched, by Ray's actors as by the scheduler before them.
        self.together = 0
        # Step and value of what a trial reports while it runs.
        self.points: Callable[[Mapping[str, Any]], Sequence[tuple[int, float]]] = lambda _: ()
        self.failing: set[int] = set()
        self.trials: dict[int, sweeps_pb2.Trial] = {}
        self.reported: dict[int, list[common_pb2.MetricPoint]] = {}
        self.created: list[int] = []
        self.watched: Counter[int] = Counter()
        self.stopped: list[int] = []
        self.peak = 0
        self.progress: list[tuple[int, int]] = []
        self.completion: sweeps_pb2.CompleteSweepRequest | None = None
        self.released: list[str] = []
        self.cancel_requested = False
        self.paused = False
        self.lost = False
        self._changed = asyncio.Condition()
        self._training: dict[int, asyncio.Task[None]] = {}

    @property
    def n_ended(self) -> int:
        return sum(trial.state != RUNNING for trial in self.trials.values())

    def parameters(self) -> dict[int, dict[str, Any]]:
        return {number: dict(trial.parameters) for number, trial in sorted(self.trials.items())}

    async def close(self) -> None:
        for task in self._training.values():
            task.cancel()
        await asyncio.gather(*self._training.values(), return_exceptions=True)

    async def ClaimSweep(self, request, context):  # type: ignore[no-untyped-def]
        if request.sweep_id != "sweep-1":
            raise NotFound(f"there is no sweep {request.sweep_id!r}")
        self.completion = None
        return sweeps_pb2.ClaimSweepResponse(
            granted=True,
            lease=common_pb2.Lease(job_id="sweep-1", attempt_id="att-1", epoch=1),
            sweep=sweeps_pb2.Sweep(id="sweep-1", spec=self.spec),
        )

    async def GetSweep(self, request, context):  # type: ignore[no-untyped-def]
        states = [trial.state for trial in self.trials.values()]
        return sweeps_pb2.Sweep(
            id="sweep-1",
            n_succeeded=states.count(SUCCEEDED),
            n_failed=states.count(FAILED),
            n_stopped=states.count(CANCELLED),
            trial_count=self.spec.num_samples * self.spec.repeats,
        )

    async def ListTrials(self, request, context):  # type: ignore[no-untyped-def]
        # Two a page, so that there is more than one.
        start = int(request.page_token or 0)
        numbers = sorted(self.trials)
        return sweeps_pb2.ListTrialsResponse(
            trials=[self.trials[number] for number in numbers[start : start + 2]],
            next_page_token=str(start + 2) if start + 2 < len(numbers) else "",
        )

    async def HeartbeatSweep(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        self.progress.append((request.progress.done, request.progress.total))
        return sweeps_pb2.HeartbeatSweepResponse(
            lease=request.lease,
            cancel_requested=self.cancel_requested,
            cancel_reason=common_pb2.REASON_USER_CANCELLED if self.cancel_requested else 0,
            paused=self.paused,
            num_samples=self.spec.num_samples,
        )

    async def CreateTrial(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        number = request.number
        if number not in self.trials:
            if request.HasField("origin"):
                await self._take_place(request)
            elif number != sum(not trial.HasField("origin") for trial in self.trials.values()):
                raise InvalidInput([])
            self.created.append(number)
            trial = sweeps_pb2.Trial(id=f"trial-{number}", number=number, state=RUNNING, observed=request.observed)
            if request.HasField("origin"):
                trial.origin.CopyFrom(request.origin)
            trial.parameters.CopyFrom(request.parameters)
            self.trials[number] = trial
            self.reported[number] = []
            self._training[number] = asyncio.create_task(self._train(number))
            self.peak = max(self.peak, len(self.trials) - self.n_ended)
        found = self.trials[number]
        assert json_format.MessageToDict(found.parameters) == json_format.MessageToDict(request.parameters)
        assert list(found.observed) == list(request.observed)
        return found

    async def _take_place(self, request):  # type: ignore[no-untyped-def]
        former = request.number - self.spec.num_samples
        assert request.number == self.spec.num_samples * request.origin.generation + request.origin.member
        if self.trials[former].state != RUNNING:
            raise FailedPrecondition("there is nothing to replace")
        await self._stop(former)

    async def WatchTrial(self, request, context):  # type: ignore[no-untyped-def]
        number = request.number
        async with self._changed:
            self.watched[number] += 1
            self._changed.notify_all()
        trial, points = self.trials[number], self.reported[number]
        known = (0, 0)  # how many points, in which state
        while known[1] in (0, RUNNING):
            now = (len(points), trial.state)
            yield sweeps_pb2.WatchTrialResponse(trial=trial, points=points[known[0] : now[0]])
            known = now
            async with self._changed:
                while now[1] == RUNNING and (len(points), trial.state) == known:
                    await self._changed.wait()

    async def StopTrial(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        return await self._stop(request.number)

    async def _stop(self, number: int) -> sweeps_pb2.Trial:
        self.stopped.append(number)
        trial = self.trials[number]
        if trial.state == RUNNING:
            self._training[number].cancel()
            async with self._changed:
                trial.state, trial.reason = CANCELLED, common_pb2.REASON_EARLY_STOPPED
                self._changed.notify_all()
        return trial

    async def CompleteSweep(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        self.completion = request
        return sweeps_pb2.Sweep(id="sweep-1", state=request.state)

    async def ReleaseSweep(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        self.released.append(request.message)
        return sweeps_pb2.ReleaseSweepResponse()

    def _check(self) -> None:
        if self.lost:
            raise Aborted("epoch 1 is over")

    async def _train(self, number: int) -> None:
        trial = self.trials[number]
        async with self._changed:
            await self._changed.wait_for(lambda: all(self.watched[each] >= 2 for each in range(self.together)))
        points = [point for point in self.points(dict(trial.parameters)) if point[0] > trial.origin.parent_step]
        for step, value in points:
            await asyncio.sleep(self.run_seconds / (len(points) + 1))
            async with self._changed:
                self.reported[number].append(common_pb2.MetricPoint(key="eval_loss", step=step, value=value))
                trial.reported_step, trial.reported_value = step, value
                self._changed.notify_all()
        await asyncio.sleep(self.run_seconds / (len(points) + 1))
        async with self._changed:
            if number in self.failing:
                trial.state, trial.message = FAILED, "the loss diverged"
            else:
                trial.state, trial.objective = SUCCEEDED, tenfold(trial.parameters)
            self._changed.notify_all()


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    fake = FakeRegistry()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    def register(server: grpc.aio.Server) -> Sequence[str]:
        sweeps_pb2_grpc.add_SweepServiceServicer_to_server(fake, server)
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
    await fake.close()
    stop.set()
    await asyncio.wait_for(serving, 10)
