"""One caller's load and the others: neither a viewer's streams nor a crowd keep workers out."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from tests.contract.jobs.test_introspection import made

from tunix_rt.errors import Exhausted, PermissionDenied
from tunix_rt.rpc.lanes import new_turn, set_current_turn
from tunix_rt.rpc.settings import ServerSettings
from tunix_rt.v1 import common_pb2, events_pb2, events_pb2_grpc, jobs_pb2, jobs_pb2_grpc, runs_pb2, runs_pb2_grpc

TIMEOUT = 20


@pytest.fixture(autouse=True)
def patient_registry() -> None:
    """It refuses what waits for longer than a second, as in use."""


async def test_a_thousand_streams_of_a_viewer_leave_room_for_a_worker_s_heartbeat(registry: Any) -> None:
    _, lease = await registry.running()
    viewer = events_pb2_grpc.EventServiceStub(registry.channel(await made(registry, "ann", "viewer")))
    streams = [viewer.WatchEvents(events_pb2.WatchEventsRequest(), timeout=120) for _ in range(1000)]

    reads = {asyncio.ensure_future(stream.read()) for stream in streams}
    refused = len(streams) - ServerSettings().max_streams_per_principal
    done: set[asyncio.Future[Any]] = set()
    async with asyncio.timeout(120):
        while len(done) < refused:
            now, reads = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
            done |= now
    codes = {read.exception().code() for read in done}  # type: ignore[union-attr]
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert (await registry.heartbeat(lease)).lease.attempt_id == lease.attempt_id
    assert len(reads) == ServerSettings().max_streams_per_principal
    for stream in streams:
        stream.cancel()
    await asyncio.wait(reads)


@asynccontextmanager
async def busy(registry: Any) -> AsyncIterator[None]:
    """Every thread of ordinary calls has something to do inside the block."""
    go, begun = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        begun.release()
        go.wait()

    async def call() -> None:
        set_current_turn(new_turn("calls"))
        await registry.database.run(work)

    calls = [asyncio.create_task(call()) for _ in range(20)]
    await asyncio.to_thread(begun.acquire)
    try:
        yield
    finally:
        go.set()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_a_busy_registry_answers_workers_and_refuses_others_within_a_second(registry: Any, refusal: Any) -> None:
    run, lease = await registry.running()
    another = await registry.create_run()
    runs = runs_pb2_grpc.RunServiceStub(registry.channel(await made(registry, "ann", "editor")))
    watch = runs.WatchRun(runs_pb2.WatchRunRequest(id=run.id), timeout=60)
    assert (await watch.read()).run.id == run.id
    async with busy(registry):
        begin = time.monotonic()
        refused = await refusal(runs.GetRun(runs_pb2.GetRunRequest(id=run.id), timeout=TIMEOUT))
        assert refused.kind is Exhausted
        assert time.monotonic() - begin < 3
        progress = common_pb2.Progress(done=3, total=4, unit="steps")
        await registry.jobs.Heartbeat(jobs_pb2.HeartbeatRequest(lease=lease, progress=progress), timeout=5)
        assert (await watch.read()).run.progress.done == 3
        claim = jobs_pb2.ClaimRequest(job_id=another.id, worker_id="w", pool=another.spec.pool)
        assert (await registry.jobs.Claim(claim, timeout=5)).granted
        ended = jobs_pb2.CompleteRequest(
            lease=lease, state=common_pb2.JOB_STATE_FAILED, reason=common_pb2.REASON_INTERNAL, message="no"
        )
        await registry.jobs.Complete(ended, timeout=5)
        assert (await watch.read()).run.state == common_pb2.JOB_STATE_FAILED
        assert time.monotonic() - begin < 15
    assert (await runs.GetRun(runs_pb2.GetRunRequest(id=run.id), timeout=TIMEOUT)).id == run.id
    watch.cancel()


async def test_who_may_not_do_a_worker_s_work_waits_with_everybody(registry: Any, refusal: Any) -> None:
    _, lease = await registry.running()
    viewer = jobs_pb2_grpc.JobServiceStub(registry.channel(await made(registry, "ann", "viewer")))
    beat = jobs_pb2.HeartbeatRequest(lease=lease)
    async with busy(registry):
        assert (await refusal(viewer.Heartbeat(beat, timeout=TIMEOUT))).kind is PermissionDenied
        # While its token is known, the refusal costs nothing. To look it up again takes its turn.
        async with asyncio.timeout(20):
            while (kind := (await refusal(viewer.Heartbeat(beat, timeout=TIMEOUT))).kind) is PermissionDenied:
                await asyncio.sleep(0.1)
        assert kind is Exhausted
        await registry.jobs.Heartbeat(beat, timeout=5)
