"""Wires the trainer: channel, consumer of its pool, servicer, health. Nothing else decides here."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence

import grpc

from tunix_rt.bus.connection import connect
from tunix_rt.bus.consume import consume
from tunix_rt.bus.topology import ensure_topology, train_consumer
from tunix_rt.rpc.auth import static_authorizer
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.server import serve_grpc, stop_on_signals
from tunix_rt.rpc.waiting import until_reachable
from tunix_rt.trainer.attempt import Supervision
from tunix_rt.trainer.grpc_registry import GrpcRegistry
from tunix_rt.trainer.handler import TrainHandler
from tunix_rt.trainer.revision import installed_revision
from tunix_rt.trainer.servicer import SERVICE, TrainingServicer
from tunix_rt.trainer.settings import TrainerSettings
from tunix_rt.trainer.standby import stand_by
from tunix_rt.v1 import training_pb2_grpc


def supervision_of(settings: TrainerSettings) -> Supervision:
    """How attempts are supervised, as set."""
    return Supervision(
        work_dir=settings.work_dir,
        cache_dir=settings.cache_root,
        artifacts_uri=settings.artifact_root,
        heartbeat_seconds=settings.heartbeat_seconds,
        report_seconds=settings.report_seconds,
        hand_back_seconds=settings.hand_back_seconds,
        cancel_seconds=settings.cancel_seconds,
        compilation_cache=settings.compilation_cache,
        simulated_devices=settings.simulated_devices,
        member=settings.member,
    )


async def run(
    settings: TrainerSettings, *, stop: asyncio.Event | None = None, on_bound: Callable[[int], None] | None = None
) -> None:
    """Serve until ``stop`` (SIGTERM) is set. Waits for NATS and the registry as long as it takes, not ready till then.

    One attempt at a time: an accelerator is not shared. Scale by running more trainers.
    """
    stop = stop or asyncio.Event()
    ready = asyncio.Event()
    authorizer = static_authorizer(settings.token_text, settings.auth)
    # Left by a trainer at this address that was killed.
    await asyncio.to_thread(shutil.rmtree, settings.work_dir, ignore_errors=True)
    async with open_channel(settings.registry_address, token=settings.token_text, tls=settings.tls) as channel:
        revision = settings.code_revision or await asyncio.to_thread(installed_revision)
        registry = GrpcRegistry(channel, settings.worker_id, settings.pool, code_revision=revision)
        handler = TrainHandler(registry, supervision_of(settings), stop)

        def register(server: grpc.aio.Server) -> Sequence[str]:
            servicer = TrainingServicer(
                settings.pool,
                settings.cache_root,
                lambda: handler.current_run_id,
                artifacts_uri=settings.artifact_root,
                simulated_devices=settings.simulated_devices,
                processes=settings.num_processes,
            )
            training_pb2_grpc.add_TrainingServiceServicer_to_server(servicer, server)
            return (SERVICE,)

        with stop_on_signals(stop):
            async with asyncio.TaskGroup() as group:
                working = group.create_task(_work(settings, channel, handler, ready, stop))
                group.create_task(
                    serve_grpc(register, settings, authorizer=authorizer, ready=ready, stop=stop, on_bound=on_bound)
                )
                await stop.wait()
                if not ready.is_set():
                    working.cancel()


async def _work(
    settings: TrainerSettings,
    channel: grpc.aio.Channel,
    handler: TrainHandler,
    ready: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    member = settings.member
    if member is not None and member.process_id > 0:
        ready.set()
        await stand_by(settings, member, stop)
        return
    client = await connect(settings, name="tunix-rt-trainer")
    try:
        js = client.jetstream()
        consumer = train_consumer(settings.pool)
        await ensure_topology(js, (consumer,))
        await until_reachable(channel)
        ready.set()
        await consume(js, consumer, handler, workers=1, stop=stop)
    finally:
        await client.close()
