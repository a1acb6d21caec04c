"""A registry behind real gRPC whose trials take a moment and whose objectives can be worked out by hand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from tests.fixtures.fake_jobs import FakeJobs
from tests.fixtures.grpc_server import serving

from tunix_rt.errors import FailedPrecondition, InvalidInput
from tunix_rt.v1 import common_pb2, jobs_pb2, jobs_pb2_grpc, sweeps_pb2, sweeps_pb2_grpc

RUNNING = common_pb2.JOB_STATE_RUNNING
SUCCEEDED = common_pb2.JOB_STATE_SUCCEEDED
FAILED = common_pb2.JOB_STATE_FAILED
CANCELLED = common_pb2.JOB_STATE_CANCELLED


def tenfold(parameters: Mapping[str, Any]) -> float:
    return 10 * float(parameters["learning_rate"])


class FakeRegistry(FakeJobs, sweeps_pb2_grpc.SweepServiceServicer):
    """Every trial reports ``points`` and ends after ``run_seconds``; its objective is learning_rate × 10."""

    job_id = "sweep-1"

    def __init__(self) -> None:
        super().__init__()
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
        self.paused = False
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

    def payload(self) -> dict[str, Message]:
        return {"sweep": jobs_pb2.SweepPayload(sweep=sweeps_pb2.Sweep(id="sweep-1", spec=self.spec))}

    def directives(self) -> dict[str, Message]:
        return {"sweep": jobs_pb2.SweepDirectives(paused=self.paused, num_samples=self.spec.num_samples)}

    async def ListTrials(self, request, context):  # type: ignore[no-untyped-def]
        # Two a page, so that there is more than one.
        start = int(request.page_token or 0)
        numbers = sorted(self.trials)
        return sweeps_pb2.ListTrialsResponse(
            trials=[self.trials[number] for number in numbers[start : start + 2]],
            next_page_token=str(start + 2) if start + 2 < len(numbers) else "",
        )

    async def CreateTrial(self, request, context):  # type: ignore[no-untyped-def]
        self.check()
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
        self.check()
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

    def register(server: grpc.aio.Server) -> Sequence[str]:
        jobs_pb2_grpc.add_JobServiceServicer_to_server(fake, server)
        sweeps_pb2_grpc.add_SweepServiceServicer_to_server(fake, server)
        return ()

    async with serving(register) as port:
        fake.address = f"127.0.0.1:{port}"
        yield fake
        await fake.close()
