"""Runs a worker service: its gRPC server, and its consumer of commands once NATS and the registry can be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from tunix_rt.bus.connection import connect
from tunix_rt.bus.consume import ConsumerVitals, consume
from tunix_rt.bus.receive import Handler
from tunix_rt.bus.topology import ConsumerSpec
from tunix_rt.rpc.audit_reports import reporting
from tunix_rt.rpc.health import CONSUMER_HEALTH
from tunix_rt.rpc.introspection import authorizing
from tunix_rt.rpc.server import serve_grpc, stop_on_signals
from tunix_rt.rpc.waiting import until_reachable
from tunix_rt.worker.settings import WorkerSettings


@dataclass(frozen=True)
class Work:
    """What a worker does beside serving: ``run(ready)`` sets ``ready`` when it has begun. ``problem()`` says why it
    makes no progress, "" where it does."""

    run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]
    problem: Callable[[], str] = lambda: ""


async def serve_worker(
    settings: WorkerSettings,
    work: Work,
    register: Callable[[grpc.aio.Server], Sequence[str]],
    *,
    stop: asyncio.Event,
    on_bound: Callable[[int], None] | None = None,
) -> None:
    """Serve until ``stop`` (SIGTERM) is set, with ``work`` beside the server.

    Health says NOT_SERVING until the work has begun and while it makes no progress; the health name "consumer" is known
    once it has begun.

    Work that is ready ends by itself when ``stop`` is set; work that still waits for its peers is cancelled.
    """
    ready = asyncio.Event()
    with stop_on_signals(stop):
        async with (
            authorizing(settings) as authorizer,
            reporting(settings) as reports,
            asyncio.TaskGroup() as group,
        ):
            working = group.create_task(work.run(ready))
            group.create_task(
                serve_grpc(
                    register,
                    settings,
                    authorizer=authorizer,
                    ready=ready,
                    stop=stop,
                    on_bound=on_bound,
                    audit=reports.guard() if reports else None,
                    checks={"": work.problem, CONSUMER_HEALTH: work.problem},
                )
            )
            await stop.wait()
            if not ready.is_set():
                working.cancel()


def consuming(
    settings: WorkerSettings,
    registry: grpc.aio.Channel,
    consumer: ConsumerSpec,
    handler: Handler,
    stop: asyncio.Event,
    *,
    name: str,
    workers: int = 1,
) -> Work:
    """The work of handling ``consumer``'s commands. Waits for NATS and the registry as long as it takes."""
    vitals = ConsumerVitals()

    async def run(ready: asyncio.Event) -> None:
        client = await connect(settings, name=name)
        try:
            await until_reachable(registry)
            ready.set()
            await consume(client.jetstream(), consumer, handler, workers=workers, stop=stop, vitals=vitals)
        finally:
            await client.close()

    return Work(run, vitals.problem)
