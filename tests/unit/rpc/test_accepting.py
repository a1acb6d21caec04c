"""gRPC is asked for many calls at once, and a server that is stopped asks for no more."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from tunix_rt.rpc.accepting import accepting_server

SERVING = health_pb2.HealthCheckResponse.SERVING


class Generic:
    """A server whose methods have no queue of their own."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        pass


@contextlib.asynccontextmanager
async def serving() -> Any:
    server = accepting_server([], [])
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, Generic(server))  # type: ignore[arg-type]
    await health.set("", SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield server, port
    finally:
        await server.stop(5)


async def test_every_one_of_many_calls_at_once_is_answered() -> None:
    async with serving() as (_, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answers = await asyncio.gather(
            *(stub.Check(health_pb2.HealthCheckRequest(), timeout=30) for _ in range(1000)),
        )
    assert {answer.status for answer in answers} == {SERVING}


async def test_the_installed_grpc_hands_over_calls_before_they_are_asked_for_one_by_one() -> None:
    async with serving() as (server, _):
        assert type(server._server).__name__ == "_Accepting"
        while not server._server._asked:
            await asyncio.sleep(0.01)
        assert len(server._server._asked) == 64
