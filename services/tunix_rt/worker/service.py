"""Runs a worker service: its gRPC server, and its consumer of commands once NATS and the registry can be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc

from tunix_rt.bus.connection import connect
from tunix_rt.bus.consume import consume
from tunix_rt.bus.receive import Handler
from tunix_rt.bus.topology import ConsumerSpec
from tunix_rt.rpc.audit_reports import reporting
from tunix_rt.rpc.introspection import authorizing
from tunix_rt.rpc.server import serve_grpc, stop_on_signals
from tunix_rt.rpc.waiting import until_reachable
from tunix_rt.worker.settings import WorkerSettings

Work = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


async def serve_worker(
    settings: WorkerSettings,
    work: Work,
    register: Callable[[grpc.aio.Server], Sequence[str]],
    *,
    stop: asyncio.Event,
    on_bound: Callable[[int], None] | None = None,
) -> None:
    """Serve until ``stop`` (SIGTERM) is set, with ``work`` beside the server; it sets its argument when it is ready.

    Work that is ready ends by itself when ``stop`` is set; work that still waits for its peers is cancelled.
    """
    ready = asyncio.Event()
    with stop_on_signals(stop):
        async with (
            authorizing(settings) as authorizer,
            reporting(settings) as reports,
            asyncio.TaskGroup() as group,
        ):
            working = group.create_task(work(ready))
            group.create_task(
                serve_grpc(
                    register,
                    settings,
                    authorizer=authorizer,
                    ready=ready,
                    stop=stop,
                    on_bound=on_bound,
                    audit=reports.guard() if reports else None,
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

    async def work(ready: asyncio.Event) -> None:
        client = await connect(settings, name=name)
        try:
            await until_reachable(registry)
            ready.set()
            await consume(client.jetstream(), consumer, handler, workers=workers, stop=stop)
        finally:
            await client.close()

    return work
