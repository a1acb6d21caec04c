"""The worker's side of the protocol against the real registry: one coroutine carries out any kind of job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tunix_rt.bus import CloudEvent, Delivery, Done, Retry
from tunix_rt.errors import Exhausted, Transient
from tunix_rt.registry.jobs.kinds import kind_of
from tunix_rt.v1 import common_pb2, jobs_pb2, sweeps_pb2
from tunix_rt.worker.claim import CarryOut, Claim, unless_interrupted
from tunix_rt.worker.grpc_jobs import GrpcJobs, lease_message
from tunix_rt.worker.handler import JobHandler
from tunix_rt.worker.jobs import Ending, Progress, Released

from .conftest import TOKEN
from .kinds import KINDS, Kind

RUNNING, SUCCEEDED = common_pb2.JOB_STATE_RUNNING, common_pb2.JOB_STATE_SUCCEEDED
FAILED, CANCELLED = common_pb2.JOB_STATE_FAILED, common_pb2.JOB_STATE_CANCELLED


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


class Unreliable:
    """The registry's jobs, of which every call fails ``failures`` times first."""

    def __init__(self, jobs: GrpcJobs) -> None:
        self._jobs = jobs
        self.failures: dict[str, int] = {}

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            if self.failures.get(name, 0) > 0:
                self.failures[name] -= 1
                raise Transient("away") if self.failures[name] % 2 else Exhausted("full", 0.01)
            return await getattr(self._jobs, name)(*arguments)

        return call


class Worker:
    """A worker of one kind of job, and what its registry holds."""

    def __init__(self, registry: Any, kind: Kind) -> None:
        self.registry, self.kind = registry, kind
        self.jobs = Unreliable(GrpcJobs(registry.channel(TOKEN), kind.number, "w-1", environment={"x": "1"}))
        self.stop = asyncio.Event()
        self.started = asyncio.Event()
        self.ended = 0

    async def handle(self, job_id: str, carry_out: CarryOut[Any], heartbeat_seconds: float = 0.05) -> Done | Retry:
        """One delivery of the job's command."""
        event = CloudEvent(
            id="evt-1",
            type="tunix_rt.command.x.v1",
            source="/test",
            subject=self.kind.command,
            resource_id=job_id,
            time=datetime.now(UTC),
            data=json.dumps({"jobId": job_id}).encode(),
        )
        handler = JobHandler(self.jobs, carry_out, self.stop, heartbeat_seconds=heartbeat_seconds)
        return await handler(Delivery(event, failures=0, last_chance=False))

    async def finish(self, claim: Claim[Any], stop: asyncio.Event) -> Ending:
        """Do at once what success takes."""
        return Ending("SUCCEEDED", result=await self.kind.finish(self.registry, lease_message(claim.lease)))

    async def linger(self, claim: Claim[Any], stop: asyncio.Event) -> Ending:
        """Work until interrupted, and clean up."""

        async def work() -> Ending:
            self.started.set()
            try:
                await asyncio.sleep(600)
            finally:
                self.ended += 1
            raise AssertionError("nobody interrupted it")

        return await unless_interrupted(work(), claim, stop)

    async def lingering(self, job_id: str) -> asyncio.Task[Done | Retry]:
        handling = asyncio.create_task(self.handle(job_id, self.linger))
        async with asyncio.timeout(10):
            await self.started.wait()
        return handling

    async def state(self, job_id: str) -> common_pb2.JobState.ValueType:
        return (await self.kind.get(self.registry, job_id)).state


@pytest.fixture
def worker(registry: Any, kind: Kind) -> Worker:
    return Worker(registry, kind)


async def test_a_command_is_claimed_carried_out_and_completed_once(registry: Any, kind: Kind, worker: Worker) -> None:
    job_id = await kind.create(registry)
    payloads = []

    async def carry_out(claim: Claim[Any], stop: asyncio.Event) -> Ending:
        payloads.append(claim.payload)
        return await worker.finish(claim, stop)

    assert await worker.handle(job_id, carry_out) == Done()
    # The command is delivered twice.
    assert await worker.handle(job_id, carry_out) == Done()
    (payload,) = payloads
    assert getattr(payload, kind.name).id == job_id
    assert await worker.state(job_id) == SUCCEEDED
    (attempt,) = await registry.attempts(job_id)
    assert (attempt.worker_id, dict(attempt.environment)) == ("w-1", {"x": "1"})
    assert attempt.outcome == jobs_pb2.ATTEMPT_OUTCOME_SUCCEEDED


async def test_a_job_that_another_holds_is_tried_later_and_an_ended_one_never(
    registry: Any, kind: Kind, worker: Worker
) -> None:
    job_id, lease = await kind.claimed(registry)
    answer = await worker.handle(job_id, worker.finish)
    assert isinstance(answer, Retry)
    assert 0 < answer.after_seconds <= 15
    await kind.succeed(registry, lease)
    assert await worker.handle(job_id, worker.finish) == Done()
    assert len(await registry.attempts(job_id)) == 1


async def test_a_command_for_an_unknown_job_is_ignored(kind: Kind, worker: Worker) -> None:
    prefix = kind.name if kind.name != "evaluation" else "eval"
    assert kind_of(f"{prefix}-9").name == kind.name
    for job_id in (f"{prefix}-9", "else-9"):
        assert await worker.handle(job_id, worker.finish) == Done()
    assert worker.ended == 0


async def test_a_command_for_a_job_of_another_kind_is_ignored(registry: Any, kind: Kind, worker: Worker) -> None:
    other = next(each for each in KINDS if each is not kind)
    job_id = await other.create(registry)
    assert await worker.handle(job_id, worker.finish) == Done()
    assert await registry.attempts(job_id) == []


async def test_a_cancellation_interrupts_the_work_and_is_confirmed(registry: Any, kind: Kind, worker: Worker) -> None:
    job_id = await kind.create(registry)
    handling = await worker.lingering(job_id)
    await kind.cancel(registry, job_id)
    assert await asyncio.wait_for(handling, 10) == Done()
    assert (await worker.state(job_id), worker.ended) == (CANCELLED, 1)
    (attempt,) = await registry.attempts(job_id)
    assert attempt.outcome == jobs_pb2.ATTEMPT_OUTCOME_CANCELLED
    assert attempt.reason == common_pb2.REASON_USER_CANCELLED


async def test_a_worker_that_stops_hands_the_job_back(registry: Any, kind: Kind, worker: Worker) -> None:
    job_id = await kind.create(registry)
    handling = await worker.lingering(job_id)
    worker.stop.set()
    assert await asyncio.wait_for(handling, 10) == Done()
    assert (await worker.state(job_id), worker.ended) == (RUNNING, 1)
    (attempt,) = await registry.attempts(job_id)
    assert (attempt.outcome, attempt.message) == (jobs_pb2.ATTEMPT_OUTCOME_RELEASED, "the worker stops")
    assert (await registry.subjects("command")).count(kind.command) == 2


async def test_a_lost_lease_interrupts_the_work_at_once_and_nothing_is_reported(
    registry: Any, kind: Kind, worker: Worker
) -> None:
    job_id = await kind.create(registry)
    handling = await worker.lingering(job_id)
    await registry.reap(after_seconds=20)
    assert await asyncio.wait_for(handling, 10) == Done()
    assert (await worker.state(job_id), worker.ended) == (RUNNING, 1)
    assert await registry.outcomes(job_id) == ["LOST"]


async def test_work_that_raises_has_failed_and_may_be_tried_again(registry: Any, kind: Kind, worker: Worker) -> None:
    job_id = await kind.create(registry)

    async def carry_out(claim: Claim[Any], stop: asyncio.Event) -> Ending:
        raise RuntimeError("a kernel crashed")

    assert await worker.handle(job_id, carry_out) == Done()
    assert await worker.state(job_id) == RUNNING
    (attempt,) = await registry.attempts(job_id)
    assert (attempt.outcome, attempt.reason) == (jobs_pb2.ATTEMPT_OUTCOME_FAILED, common_pb2.REASON_INTERNAL)
    assert attempt.message == "RuntimeError: a kernel crashed"
    assert (await registry.subjects("command")).count(kind.command) == 2


@pytest.mark.parametrize("retryable", [False, True])
async def test_a_result_that_the_registry_refuses_is_a_failure(
    registry: Any, kind: Kind, worker: Worker, retryable: bool
) -> None:
    job_id = await kind.create(registry)

    async def carry_out(claim: Claim[Any], stop: asyncio.Event) -> Ending:
        return Ending("SUCCEEDED", retryable=retryable)

    assert await worker.handle(job_id, carry_out) == Done()
    assert await worker.state(job_id) == (RUNNING if retryable else FAILED)
    (attempt,) = await registry.attempts(job_id)
    assert attempt.outcome == jobs_pb2.ATTEMPT_OUTCOME_FAILED
    assert attempt.message.startswith("the registry refuses the result: ")


async def test_a_registry_that_is_away_for_a_while_costs_nothing(registry: Any, kind: Kind, worker: Worker) -> None:
    job_id = await kind.create(registry)
    worker.jobs.failures = {"claim": 2, "heartbeat": 3, "complete": 3}
    for _ in ("away", "full"):
        assert isinstance(await worker.handle(job_id, worker.finish), Retry)
    assert await worker.handle(job_id, worker.finish) == Done()
    assert await worker.state(job_id) == SUCCEEDED
    assert await registry.outcomes(job_id) == ["SUCCEEDED"]


async def test_a_worker_that_stops_while_the_registry_is_away_lets_the_lease_expire(
    registry: Any, kind: Kind, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunix_rt.worker.handler._RELEASE_SECONDS", 0.2)
    job_id = await kind.create(registry)
    handling = await worker.lingering(job_id)
    worker.jobs.failures = {"release": 10**6}
    worker.stop.set()
    assert await asyncio.wait_for(handling, 10) == Retry(2.0)
    assert await registry.outcomes(job_id) == ["RUNNING"]


async def test_what_an_attempt_resumed_from_is_reported_however_soon_it_ends(
    registry: Any, kind: Kind, worker: Worker
) -> None:
    job_id = await kind.create(registry)

    async def fail(claim: Claim[Any], stop: asyncio.Event) -> Ending:
        claim.resumed(40)
        return Ending("FAILED", "INTERNAL", retryable=True)

    async def hand_back(claim: Claim[Any], stop: asyncio.Event) -> Ending:
        claim.resumed(60)
        # A heartbeat is due in ten minutes; this one does not wait for it.
        async with asyncio.timeout(10):
            while [each.resumed_step for each in await registry.attempts(job_id)][1] != 60:
                await asyncio.sleep(0.01)
        raise Released("enough")

    assert await worker.handle(job_id, fail) == Done()
    assert await worker.handle(job_id, hand_back, heartbeat_seconds=600) == Done()
    assert await registry.outcomes(job_id) == ["FAILED", "RELEASED"]
    assert [attempt.resumed_step for attempt in await registry.attempts(job_id)] == [40, 60]


async def test_the_last_progress_is_reported_before_the_end(registry: Any) -> None:
    worker = Worker(registry, KINDS[0])
    job_id = await worker.kind.create(registry)

    async def carry_out(claim: Claim[Any], stop: asyncio.Event) -> Ending:
        claim.progress = lambda: Progress(7, 9, "steps", "training")
        return Ending("FAILED", "DIVERGED", "the loss is NaN")

    assert await worker.handle(job_id, carry_out) == Done()
    progress = (await registry.get_run(job_id)).progress
    assert (progress.done, progress.total, progress.unit, progress.stage) == (7, 9, "steps", "training")


async def test_the_directives_of_a_sweep_reach_its_worker(registry: Any) -> None:
    worker = Worker(registry, next(each for each in KINDS if each.name == "sweep"))
    job_id = await worker.kind.create(registry)

    async def carry_out(claim: Claim[Any], stop: asyncio.Event) -> Ending:
        async for answer in claim.answers():
            worker.started.set()
            if answer.directives.num_samples == 3:
                raise Released("it has grown")
        raise AssertionError("answers do not end")

    handling = asyncio.create_task(worker.handle(job_id, carry_out))
    await asyncio.wait_for(worker.started.wait(), 10)

    request = sweeps_pb2.ExtendSweepRequest(request_id=registry.request_id(), id=job_id, num_samples=3)
    await registry.sweeps.ExtendSweep(request, timeout=20)
    assert await asyncio.wait_for(handling, 10) == Done()
    assert (await registry.attempts(job_id))[0].message == "it has grown"
