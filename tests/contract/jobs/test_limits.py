"""One caller's load and the others: a viewer's streams do not keep workers out."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from tests.contract.jobs.test_introspection import made

from tunix_rt.rpc.settings import ServerSettings
from tunix_rt.v1 import events_pb2, events_pb2_grpc

TIMEOUT = 20


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
