from __future__ import annotations

import asyncio

import grpc
import pytest
from tunix_rt.trainer.grpc_registry import GrpcRegistry
from tunix_rt.trainer.work import Lease

from tunix_rt.errors import Transient
from tunix_rt.rpc.channel import open_channel
from tunix_rt.trainer.messages import ProgressMade
from tunix_rt.v1 import common_pb2, runs_pb2, runs_pb2_grpc

LEASE = Lease("run-1", "att-1", 1)


class SlowRegistry(runs_pb2_grpc.RunServiceServicer):
    def __init__(self) -> None:
        self.entered = asyncio.Event()

    async def Heartbeat(self, request, context):  # type: ignore[no-untyped-def]
        self.entered.set()
        await asyncio.sleep(30)


async def test_cancelling_a_call_cancels_its_task_and_is_not_taken_for_trouble_of_the_registry() -> None:
    slow = SlowRegistry()
    server = grpc.aio.server()
    runs_pb2_grpc.add_RunServiceServicer_to_server(slow, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}", token=None) as channel:
        registry = GrpcRegistry(channel, "worker-1", "cpu")

        async def beat_for_ever() -> None:
            while True:
                try:
                    await registry.heartbeat(LEASE, ProgressMade("training", 0, 1))
                except Transient:
                    await asyncio.sleep(0.01)

        beating = asyncio.create_task(beat_for_ever())
        await slow.entered.wait()
        beating.cancel()
        done, _ = await asyncio.wait([beating], timeout=3)
        assert done == {beating}
        assert beating.cancelled()
    await server.stop(0)


class TellingRegistry(runs_pb2_grpc.RunServiceServicer):
    """Tells of a run that is cancelled while it trains, the second time one asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def WatchRun(self, request, context):  # type: ignore[no-untyped-def]
        self.asked.append(request.id)
        yield runs_pb2.WatchRunResponse(run=runs_pb2.Run(id=request.id, state=common_pb2.JOB_STATE_RUNNING))
        if len(self.asked) > 1:
            cancelling = runs_pb2.Run(state=common_pb2.JOB_STATE_CANCELLING, reason=common_pb2.REASON_EARLY_STOPPED)
            yield runs_pb2.WatchRunResponse(run=cancelling)
            await asyncio.sleep(30)


async def test_a_cancellation_is_heard_when_it_is_told_and_a_stream_that_ends_is_not_one() -> None:
    telling = TellingRegistry()
    server = grpc.aio.server()
    runs_pb2_grpc.add_RunServiceServicer_to_server(telling, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}", token=None) as channel:
        registry = GrpcRegistry(channel, "worker-1", "cpu")
        with pytest.raises(Transient):
            await registry.cancellation(LEASE)
        asked = await asyncio.wait_for(registry.cancellation(LEASE), 5)
    assert (asked.reason, asked.keeps_checkpoint) == ("EARLY_STOPPED", True)
    assert telling.asked == ["run-1", "run-1"]
    await server.stop(0)


async def test_a_registry_that_is_not_there_is_transient() -> None:
    async with open_channel("127.0.0.1:1", token=None) as channel:
        with pytest.raises(Transient):
            await GrpcRegistry(channel, "worker-1", "cpu").heartbeat(LEASE, ProgressMade("training", 0, 1))
