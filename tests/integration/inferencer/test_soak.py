"""Thousands of requests over gRPC and HTTP, many of them left by their clients: every answer is right, nothing is kept.

The service runs in this process, as `serve` wires it, with the real loader; so what it holds can be looked at: slots,
waiting lines, users of models, tasks, threads, open files, memory, and every live object of a request.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import psutil
import pytest

from tunix_rt.inferencer.engine.jax_engine import EngineShape
from tunix_rt.inferencer.generation import Delta, GenerationRequest
from tunix_rt.inferencer.http.event_stream import EventStream
from tunix_rt.inferencer.scheduler import Ticket
from tunix_rt.inferencer.text import Transcript
from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc

SHAPE = EngineShape(8, 256, 32, 8)
IN_FLIGHT = 64
# gRPC's own pool adds a thread where its work piles up, and takes its time to end it; it is bounded, and far below one
# for each request that was left.
GRPC_THREADS = 8
# Fewer places than clients and their choices need at times, so that some are refused.
QUEUE_LIMIT = 72
# gRPC's accept loop keeps the last RPC's state until the next one comes; if that one was refused, the error's traceback
# holds its request. It is one at most.
LINGERING = 1
# From 2,000 requests to 10,000. A request that is kept keeps its ticket, its transcript and its deltas: far more than
# 2 KiB each. What grows less than that is the allocator's.
MOST_GROWTH = 8000 * 2048
COUNTS = (1, 3, 9, 20)
LONG = 200
TEXTS = ("the sum of two", "café größe naïve ; what makes seven times eight ? " * 3, "12 + 345", "two and three is")
# A connection of one's own, which ends with its channel.
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


@dataclass
class Clients:
    """Every way to use the service and to leave it; each says what became of the request."""

    service: Any
    chance: random.Random = field(default_factory=lambda: random.Random(8))
    alone: dict[tuple[str, int], str] = field(default_factory=dict)  # greedy answers, by text and number of tokens
    stub: Any = None
    session: Any = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        base = f"http://127.0.0.1:{self.service.http_port}"
        connector = aiohttp.TCPConnector(limit=0)
        headers = {"Authorization": f"Bearer {self.service.token}"}
        async with (
            aiohttp.ClientSession(base, headers=headers, connector=connector) as self.session,
            grpc.aio.insecure_channel(f"127.0.0.1:{self.service.port}", options=OWN_CONNECTION) as channel,
        ):
            self.stub = inference_pb2_grpc.InferenceServiceStub(channel)
            yield

    @property
    def options(self) -> dict[str, Any]:
        return {"timeout": 120, "metadata": (("authorization", f"Bearer {self.service.token}"),)}

    async def use(self, count: int) -> Counter[str]:
        """``count`` requests of mixed kinds, `IN_FLIGHT` at a time."""
        kinds = [
            self.unary, self.unary, self.stream, self.stream, self.score, self.sampled, self.deadline, self.given_up,
            self.left, self.cut_off, self.wrong, self.http, self.http_stream, self.http_left, self.http_given_up,
        ]  # fmt: skip
        numbers = iter(range(count))
        outcomes: Counter[str] = Counter()

        async def worker() -> None:
            for _ in numbers:
                kind = self.chance.choice(kinds)
                outcomes[f"{kind.__name__}: {await outcome_of(kind)}"] += 1

        async with self.connected(), asyncio.TaskGroup() as workers:
            for _ in range(IN_FLIGHT):
                workers.create_task(worker())
        return outcomes

    async def learn(self) -> None:
        """Ask each question that has one answer, one after the other."""
        async with self.connected():
            for text in TEXTS:
                for count in COUNTS:
                    request = self.request(count, text=text)
                    answer = await self.stub.Generate(request, **self.options)
                    self.alone[text, count] = answer.text

    def request(self, count: int | None = None, *, text: str = "", **config: Any) -> inference_pb2.GenerateRequest:
        return inference_pb2.GenerateRequest(
            model=self.service.model.handle,
            text=text or self.chance.choice(TEXTS),
            config=common_pb2.GenerationConfig(max_new_tokens=count or self.chance.choice(COUNTS), **config),
        )

    def checked(self, request: inference_pb2.GenerateRequest, text: str) -> str:
        assert text == self.alone[request.text, request.config.max_new_tokens]
        return "answered"

    async def unary(self) -> str:
        request = self.request()
        return self.checked(request, (await self.stub.Generate(request, **self.options)).text)

    async def stream(self) -> str:
        request = self.request()
        pieces = [piece.text async for piece in self.stub.GenerateStream(request, **self.options)]
        return self.checked(request, "".join(pieces))

    async def score(self) -> str:
        request = inference_pb2.ScoreRequest(
            model=self.service.model.handle, text=self.chance.choice(TEXTS), top_logprobs=2
        )
        answer = await self.stub.Score(request, **self.options)
        assert len(answer.logprobs) == len(answer.token_ids) - 1
        return "scored"

    async def sampled(self) -> str:
        request = self.request(temperature=1.0, top_p=0.9, seed=self.chance.randrange(99), stop=["three"])
        request.return_logprobs, request.top_logprobs = True, 3
        answer = await self.stub.Generate(request, **self.options)
        assert len(answer.logprobs) == len(answer.token_ids)
        return "sampled"

    async def deadline(self) -> str:
        options = {**self.options, "timeout": self.chance.uniform(0.001, 0.2)}
        await self.stub.Generate(self.request(LONG), **options)
        return "in time"

    async def given_up(self) -> str:
        call = self.stub.Generate(self.request(LONG), **self.options)
        await asyncio.sleep(self.chance.uniform(0, 0.1))
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        return "cancelled"

    async def left(self) -> str:
        """The channel is closed in the middle of a stream."""
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.service.port}", options=OWN_CONNECTION)
        try:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            await stub.GenerateStream(self.request(LONG), **self.options).read()
        finally:
            await channel.close()
        return "channel closed"

    async def cut_off(self) -> str:
        """The connection breaks in the middle of a stream: the server is told nothing."""
        async with cable(self.service.port) as (port, cut):
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OWN_CONNECTION)
            try:
                stub = inference_pb2_grpc.InferenceServiceStub(channel)
                await stub.GenerateStream(self.request(LONG), **self.options).read()
                cut()
            finally:
                await channel.close()
        return "cut off"

    async def wrong(self) -> str:
        await self.stub.Generate(self.request(temperature=-1), **self.options)
        raise AssertionError("a negative temperature was accepted")

    def body(self, request: inference_pb2.GenerateRequest, **options: Any) -> dict[str, Any]:
        body = {"model": self.service.model.handle, "prompt": request.text, "max_tokens": request.config.max_new_tokens}
        return {**body, "temperature": 0, **options}

    async def http(self) -> str:
        request = self.request()
        async with self.session.post(
            "/v1/completions", json=self.body(request, n=self.chance.choice((1, 2)))
        ) as answer:
            if answer.status == 429:
                return "refused"
            choices = (await answer.json())["choices"]
        return {self.checked(request, choice["text"]) for choice in choices}.pop()

    async def http_stream(self) -> str:
        request = self.request()
        text = ""
        async with self.session.post("/v1/completions", json=self.body(request, stream=True)) as answer:
            if answer.status == 429:
                return "refused"
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    text += json.loads(line.removeprefix(b"data: "))["choices"][0]["text"]
        return self.checked(request, text)

    async def http_left(self) -> str:
        """The socket is closed in the middle of a stream of three choices."""
        body = self.body(self.request(LONG), stream=True, n=3)
        async with self.session.post("/v1/completions", json=body) as answer:
            if answer.status == 429:
                return "refused"
            await answer.content.readline()
            answer.close()
        return "socket closed"

    async def http_given_up(self) -> str:
        timeout = aiohttp.ClientTimeout(self.chance.uniform(0.001, 0.1))
        async with self.session.post("/v1/completions", json=self.body(self.request(LONG)), timeout=timeout) as answer:
            return "refused" if answer.status == 429 else "in time"


@asynccontextmanager
async def cable(port: int) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A connection to ``port`` that can be cut: yields the port at its other end, and what cuts it."""
    ends: list[asyncio.StreamWriter] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 14):
                writer.write(data)
                await writer.drain()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        ends.extend((writer, back))
        await asyncio.gather(carry(reader, back), carry(there, writer))

    def cut() -> None:
        for end in ends:
            end.transport.abort()

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], cut
    finally:
        cut()
        server.close()
        await server.wait_closed()


# What may become of a request besides an answer; everything else fails the test.
_REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED
_MAY_FAIL = {
    "deadline": grpc.StatusCode.DEADLINE_EXCEEDED,
    "wrong": grpc.StatusCode.INVALID_ARGUMENT,
}


async def outcome_of(kind: Callable[[], Awaitable[str]]) -> str:
    try:
        return await kind()
    except grpc.aio.AioRpcError as error:
        assert error.code() in (_REFUSED, _MAY_FAIL.get(kind.__name__)), (kind.__name__, error)
        return "refused" if error.code() is _REFUSED else error.code().name.lower()
    except TimeoutError:
        assert kind.__name__ == "http_given_up"
        return "timed out"


@dataclass(frozen=True)
class Held:
    """What the process holds at one moment. ``files`` counts descriptors, ``memory`` is resident bytes."""

    tasks: int
    threads: int
    native_threads: int
    files: int
    objects: tuple[int, ...]
    memory: int

    @staticmethod
    def now() -> Held:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        process = psutil.Process()
        kinds = Counter(type(found) for found in gc.get_objects())
        return Held(
            len(asyncio.all_tasks()),
            threading.active_count(),
            process.num_threads(),
            process.num_fds(),
            tuple(kinds[kind] for kind in (Ticket, GenerationRequest, Transcript, Delta, EventStream)),
            process.memory_info().rss,
        )

    def no_more_than(self, other: Held) -> bool:
        """In everything but memory, which has a bound of its own."""
        return (
            self.tasks <= other.tasks
            and self.threads <= other.threads
            and self.native_threads <= other.native_threads + GRPC_THREADS
            and self.files <= other.files
            and max(self.objects) <= LINGERING
        )


async def until(check: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for ``check``; what is still false then is for the test to say."""
    end = time.monotonic() + seconds
    while not check() and time.monotonic() < end:
        await asyncio.sleep(0.1)


async def soak(service: Any, warm_up: int, rounds: list[int]) -> list[Held]:
    """What is held after each round, the service being idle and nobody connected; the first is after the warm-up."""
    clients, model, found = Clients(service), service.model, list[Held]()
    await clients.learn()
    # The loop's own threads are made on demand, up to a limit: have all of them.
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.05) for _ in range(64)))
    for count in (warm_up, *rounds):
        started = time.monotonic()
        outcomes = await clients.use(count)
        seconds = time.monotonic() - started
        await until(lambda: not (model.scheduler.has_work or model.users))
        assert (model.scheduler.busy_slots, model.scheduler.waiting, model.users) == (0, 0, 0)
        if found:
            await until(lambda: Held.now().no_more_than(found[0]))
        else:
            await asyncio.sleep(1)
        found.append(Held.now())
        print(f"{count} requests in {seconds:.1f} s: {dict(sorted(outcomes.items()))}\n  {found[-1]}")
        assert found[-1].no_more_than(found[0]), (found[-1], found[0])
    return found


@pytest.mark.slow
async def test_nothing_is_kept_of_requests_that_end_in_every_way(
    tiny: Any, serving_here: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving_here(tiny.directory, tmp_path, SHAPE, inferencer_queue_limit=QUEUE_LIMIT) as service:
        await soak(service, 100, [300])
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_ten_thousand_requests_leave_the_memory_as_it_was(
    tiny: Any, serving_here: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving_here(tiny.directory, tmp_path, SHAPE, inferencer_queue_limit=QUEUE_LIMIT) as service:
        memory = [held.memory for held in await soak(service, 1000, [1000] * 9)]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    print("MiB after each thousand:", [round(size / 2**20, 1) for size in memory])
    # What the process needs for a while comes and goes; what leaks stays.
    assert min(memory[-3:]) - memory[1] < MOST_GROWTH
