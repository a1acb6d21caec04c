"""The inferencer as a process of its own, asked over gRPC: every request is one ``GenerateStream``.

    python streaming.py WORKLOAD.npz MODEL_DIRECTORY [--slots 8] [--format float32]

Prints the JSON object of `workload.report`: all streams are open at once, and this process reads them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from ours import named, shape_arguments
from workload import Request, Workload, arguments, report

from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc

_TOKEN = "a-token-for-this-benchmark-0123456789"
_READY_SECONDS = 300.0


@dataclass(frozen=True)
class Answer:
    """Token ids of one stream; ``first_token`` in seconds since the service accepted it, by its own clock."""

    tokens: list[int]
    first_token: float


class Client:
    """Speaks to one loaded model."""

    def __init__(self, stub: inference_pb2_grpc.InferenceServiceAsyncStub, handle: str) -> None:
        self._stub = stub
        self._handle = handle

    async def stream(self, request: Request) -> Answer:
        """One ``GenerateStream`` to its end."""
        message = inference_pb2.GenerateRequest(
            model=self._handle,
            tokens=inference_pb2.TokenInput(token_ids=request.prompt),
            config=common_pb2.GenerationConfig(max_new_tokens=request.wanted),
        )
        tokens: list[int] = []
        first = 0.0
        async for piece in self._stub.GenerateStream(message, metadata=_metadata()):
            tokens += piece.token_ids
            if piece.HasField("usage"):
                first = piece.usage.first_token_seconds
        return Answer(tokens, first)

    async def all(self, requests: Sequence[Request], at_once: int | None = None) -> list[Answer]:
        """Answers in the order of ``requests``, ``at_once`` (None: all) of which are open at any time."""
        places = asyncio.Semaphore(at_once or len(requests))

        async def one(request: Request) -> Answer:
            async with places:
                return await self.stream(request)

        return await asyncio.gather(*(one(request) for request in requests))


def _metadata() -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {_TOKEN}"),)


def _environment(home: Path, port: int, given: argparse.Namespace) -> dict[str, str]:
    shape = {f"TUNIX_RT_INFERENCER_{name.upper()}": str(getattr(given, name)) for name in _SHAPE}
    cache = {} if given.cache is None else {"TUNIX_RT_CACHE_DIR": str(given.cache)}
    own = {"TUNIX_RT_HOME": str(home), "TUNIX_RT_LISTEN": f"127.0.0.1:{port}", "TUNIX_RT_TOKEN": _TOKEN}
    return {**os.environ, **own, **shape, **cache}


_SHAPE = ("slots", "context", "chunk", "steps")


@asynccontextmanager
async def service(given: argparse.Namespace) -> AsyncIterator[Client]:
    """A running service with the model of ``given`` loaded."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log"
        command = [sys.executable, str(Path(__file__).with_name("served.py"))]
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=_environment(Path(name), port, given), stderr=output)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await asyncio.wait_for(channel.channel_ready(), _READY_SECONDS)
                stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(channel)
                reference, weight_format = given.model.absolute().as_uri(), named(given.format)
                load = inference_pb2.LoadModelRequest(reference=reference, weight_format=weight_format)
                model = await stub.LoadModel(load, metadata=_metadata())
                yield Client(stub, model.handle)
        except Exception:
            print(log.read_text()[-2000:], file=sys.stderr)
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            finally:
                process.kill()


def parser_of(description: str | None) -> argparse.ArgumentParser:
    parser = arguments(description)
    shape_arguments(parser)
    parser.add_argument("--cache", type=Path, help="where compiled programs are kept")
    return parser


async def main() -> None:
    given = parser_of(__doc__).parse_args()
    requests = Workload.load(given.workload).requests()
    began = time.perf_counter()
    async with service(given) as client:
        await client.stream(Request(requests[0].prompt, 2))
        started = time.perf_counter()
        answers = await client.all(requests)
        seconds = time.perf_counter() - started
    report(requests, [answer.tokens for answer in answers], seconds, start_up=started - began)


if __name__ == "__main__":
    asyncio.run(main())
