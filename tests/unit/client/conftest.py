"""A registry, an inferencer and a tuner whose answers the tests script, behind real gRPC; both clients over them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tunix_rt.client import AsyncTunixClient, TunixClient
from tunix_rt.v1 import (
    datasets_pb2_grpc,
    evalsets_pb2_grpc,
    evaluations_pb2_grpc,
    events_pb2_grpc,
    inference_pb2_grpc,
    models_pb2_grpc,
    runs_pb2_grpc,
    sweeps_pb2_grpc,
    tuning_pb2_grpc,
)

Handler = Callable[[Any, grpc.ServicerContext], Any]


class ScriptedServer:
    """Serves the methods in ``handlers`` (by name); remembers requests and tokens. Can be stopped and started again."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.requests: list[Any] = []
        self.tokens: list[str] = []
        self.port = 0
        self._server: grpc.Server | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        for module, service in (
            (datasets_pb2_grpc, "DatasetService"),
            (evalsets_pb2_grpc, "EvalSetService"),
            (evaluations_pb2_grpc, "EvaluationService"),
            (events_pb2_grpc, "EventService"),
            (inference_pb2_grpc, "InferenceService"),
            (models_pb2_grpc, "ModelService"),
            (runs_pb2_grpc, "RunService"),
            (sweeps_pb2_grpc, "SweepService"),
            (tuning_pb2_grpc, "TuningService"),
        ):
            base = getattr(module, f"{service}Servicer")
            getattr(module, f"add_{service}Servicer_to_server")(self._servicer(base), server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        server.start()
        self._server = server

    def stop(self) -> None:
        """As a killed process: every connection is cut."""
        if self._server is not None:
            self._server.stop(grace=0).wait()
            self._server = None

    def _servicer(self, base: type) -> Any:
        names = [name for name in vars(base) if not name.startswith("_")]
        return type("Scripted", (base,), {name: self._method(name) for name in names})()

    def _method(self, name: str) -> Callable[[Any, Any, grpc.ServicerContext], Any]:
        def method(servicer: Any, request: Any, context: grpc.ServicerContext) -> Any:
            metadata = dict(context.invocation_metadata())
            self.tokens.append(str(metadata.get("authorization", "")))
            if not isinstance(request, Iterator):
                self.requests.append(request)
            return self.handlers[name](request, context)

        return method


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.stop()


class BlockingUse:
    """Runs a test's client code on the blocking client."""

    def __init__(self, server: ScriptedServer, **arguments: Any) -> None:
        self._arguments = dict.fromkeys(("address", "inferencer_address", "tuner_address"), server.address) | arguments

    def one(self, use: Callable[[Any], Any]) -> Any:
        with TunixClient(**self._arguments) as client:
            return use(client)

    def then(self, first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Any:
        """The result of ``second``, which is given that of ``first``."""
        return self.one(lambda client: second(first(client)))

    def many(self, use: Callable[[Any], Any]) -> list[Any]:
        with TunixClient(**self._arguments) as client:
            return list(use(client))


class AwaitedUse(BlockingUse):
    """Runs the same code on the asyncio client."""

    def one(self, use: Callable[[Any], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with AsyncTunixClient(**self._arguments) as client:
                return await use(client)

        return asyncio.run(main())

    def then(self, first: Callable[[Any], Awaitable[Any]], second: Callable[[Any], Awaitable[Any]]) -> Any:
        async def both(client: Any) -> Any:
            return await second(await first(client))

        return self.one(both)

    def many(self, use: Callable[[Any], Any]) -> list[Any]:
        async def main() -> list[Any]:
            async with AsyncTunixClient(**self._arguments) as client:
                return [item async for item in use(client)]

        return asyncio.run(main())


Use = BlockingUse | AwaitedUse


@pytest.fixture(params=[BlockingUse, AwaitedUse], ids=["blocking", "awaited"])
def use_class(request: pytest.FixtureRequest) -> type[Use]:
    kind: type[Use] = request.param
    return kind


@pytest.fixture
def use(use_class: type[Use], server: ScriptedServer) -> Use:
    return use_class(server, token="secret-token", outage_seconds=10.0)
