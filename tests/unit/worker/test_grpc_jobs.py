from __future__ import annotations

import asyncio

import grpc
import pytest

from tunix_rt.errors import Transient
from tunix_rt.rpc.channel import open_channel
from tunix_rt.v1 import jobs_pb2, jobs_pb2_grpc
from tunix_rt.worker.grpc_jobs import GrpcJobs
from tunix_rt.worker.jobs import Lease

LEASE = Lease("run-1", "att-1", 1)


class SlowRegistry(jobs_pb2_grpc.JobServiceServicer):
    def __init__(self) -> None:
        self.entered = asyncio.Event()

    async def Heartbeat(self, request, context):  # type: ignore[no-untyped-def]
        self.entered.set()
        await asyncio.sleep(30)


async def test_cancelling_a_call_cancels_its_task_and_is_not_taken_for_trouble_of_the_registry() -> None:
    slow = SlowRegistry()
    server = grpc.aio.server()
    jobs_pb2_grpc.add_JobServiceServicer_to_server(slow, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}", token=None) as channel:
        jobs = GrpcJobs(channel, jobs_pb2.JOB_KIND_RUN, "worker-1")

        async def send_heartbeats() -> None:
            while True:
                try:
                    await jobs.heartbeat(LEASE, None, 0)
                except Transient:
                    await asyncio.sleep(0.01)

        beating = asyncio.create_task(send_heartbeats())
        await slow.entered.wait()
        beating.cancel()
        done, _ = await asyncio.wait([beating], timeout=3)
        assert done == {beating}
        assert beating.cancelled()
    await server.stop(0)


async def test_a_registry_that_is_not_there_is_transient() -> None:
    async with open_channel("127.0.0.1:1", token=None) as channel:
        with pytest.raises(Transient):
            await GrpcJobs(channel, jobs_pb2.JOB_KIND_RUN, "worker-1").heartbeat(LEASE, None, 0)
