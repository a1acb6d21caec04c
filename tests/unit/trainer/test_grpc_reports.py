from __future__ import annotations

import asyncio

import grpc
import pytest

from tunix_rt.errors import Transient
from tunix_rt.rpc.channel import open_channel
from tunix_rt.trainer.grpc_reports import GrpcRunReports
from tunix_rt.v1 import common_pb2, runs_pb2, runs_pb2_grpc


class WatchedRegistry(runs_pb2_grpc.RunServiceServicer):
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
    watched = WatchedRegistry()
    server = grpc.aio.server()
    runs_pb2_grpc.add_RunServiceServicer_to_server(watched, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}", token=None) as channel:
        reports = GrpcRunReports(channel)
        with pytest.raises(Transient, match="the WatchRun stream ended"):
            await reports.cancellation("run-1")
        assert await asyncio.wait_for(reports.cancellation("run-1"), 5) == "EARLY_STOPPED"
    assert watched.asked == ["run-1", "run-1"]
    await server.stop(0)
