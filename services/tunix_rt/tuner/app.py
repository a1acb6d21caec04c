"""Wires the tuner: channel, consumer, servicer, health. Nothing else decides here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc

from tunix_rt.bus.connection import connect
from tunix_rt.bus.consume import consume
from tunix_rt.bus.topology import TUNE, ensure_topology
from tunix_rt.rpc.auth import static_authorizer
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.server import serve_grpc, stop_on_signals
from tunix_rt.rpc.waiting import until_reachable
from tunix_rt.tuner.attempt import Limits
from tunix_rt.tuner.grpc_registry import GrpcRegistry
from tunix_rt.tuner.handler import TuneHandler
from tunix_rt.tuner.settings import TunerSettings
from tunix_rt.tuner.tuning_servicer import SERVICE, TuningServicer
from tunix_rt.v1 import tuning_pb2_grpc


def limits_of(settings: TunerSettings) -> Limits:
    """The limits as set. Ray's driver and actors read registry and token from their environment."""
    environment = {"TUNIX_RT_REGISTRY_ADDRESS": settings.registry_address}
    if settings.token_text:
        environment["TUNIX_RT_TOKEN"] = settings.token_text
    return Limits(
        max_concurrent_trials=settings.tuner_max_concurrent_trials,
        heartbeat_seconds=settings.heartbeat_seconds,
        ray_address=settings.ray_address,
        ray_num_cpus=settings.ray_num_cpus,
        environment=environment,
        ray_start_seconds=settings.ray_start_seconds,
    )


async def run(
    settings: TunerSettings, *, stop: asyncio.Event | None = None, on_bound: Callable[[int], None] | None = None
) -> None:
    """Serve until ``stop`` (SIGTERM) is set. Waits for NATS and the registry as long as it takes."""
    stop = stop or asyncio.Event()
    ready = asyncio.Event()
    authorizer = static_authorizer(settings.token_text, settings.auth)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        tuning_pb2_grpc.add_TuningServiceServicer_to_server(TuningServicer(settings.ray_address), server)
        return (SERVICE,)

    with stop_on_signals(stop):
        async with asyncio.TaskGroup() as group:
            working = group.create_task(_work(settings, ready, stop))
            group.create_task(
                serve_grpc(register, settings, authorizer=authorizer, ready=ready, stop=stop, on_bound=on_bound)
            )
            await stop.wait()
            if not ready.is_set():
                working.cancel()


async def _work(settings: TunerSettings, ready: asyncio.Event, stop: asyncio.Event) -> None:
    token = settings.token_text
    async with open_channel(settings.registry_address, token=token, tls=settings.tls) as channel:
        client = await connect(settings, name="tunix-rt-tuner")
        try:
            js = client.jetstream()
            await ensure_topology(js, (TUNE,))
            await until_reachable(channel)
            ready.set()
            handler = TuneHandler(GrpcRegistry(channel, settings.worker_id), limits_of(settings), stop)
            await consume(js, TUNE, handler, workers=settings.tuner_workers, stop=stop)
        finally:
            await client.close()
