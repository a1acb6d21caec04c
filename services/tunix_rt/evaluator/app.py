"""Wires the evaluator: channels, consumer, servicer, health. Nothing else decides here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc

from tunix_rt.bus.connection import connect
from tunix_rt.bus.consume import consume
from tunix_rt.bus.topology import EVALUATE, ensure_topology
from tunix_rt.evaluator.attempt import Limits
from tunix_rt.evaluator.grpc_inferencer import GrpcInferencer
from tunix_rt.evaluator.grpc_registry import GrpcRegistry
from tunix_rt.evaluator.handler import EvaluateHandler
from tunix_rt.evaluator.scoring_servicer import SERVICE, ScoringServicer
from tunix_rt.evaluator.settings import EvaluatorSettings
from tunix_rt.quality.scorer_plugins import installed_scorers
from tunix_rt.quality.scorers import ScorerSet
from tunix_rt.rpc.auth import static_authorizer
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.server import serve_grpc, stop_on_signals
from tunix_rt.rpc.waiting import until_reachable
from tunix_rt.v1 import scoring_pb2_grpc


def limits_of(settings: EvaluatorSettings) -> Limits:
    """The engine's limits as set."""
    return Limits(
        concurrency=settings.evaluator_concurrency,
        batch=settings.evaluator_batch,
        item_tries=settings.item_tries,
        inferencer_patience_seconds=settings.inferencer_patience_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
    )


async def run(
    settings: EvaluatorSettings, *, stop: asyncio.Event | None = None, on_bound: Callable[[int], None] | None = None
) -> None:
    """Serve until ``stop`` (SIGTERM) is set. Waits for NATS and the registry as long as it takes.

    Raises `FailedPrecondition` at once when an installed third-party scorer cannot be used.
    """
    scorers = installed_scorers()
    stop = stop or asyncio.Event()
    ready = asyncio.Event()
    authorizer = static_authorizer(settings.token_text, settings.auth)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(ScoringServicer(scorers), server)
        return (SERVICE,)

    with stop_on_signals(stop):
        async with asyncio.TaskGroup() as group:
            working = group.create_task(_work(settings, scorers, ready, stop))
            group.create_task(
                serve_grpc(register, settings, authorizer=authorizer, ready=ready, stop=stop, on_bound=on_bound)
            )
            await stop.wait()
            if not ready.is_set():
                working.cancel()


async def _work(settings: EvaluatorSettings, scorers: ScorerSet, ready: asyncio.Event, stop: asyncio.Event) -> None:
    async with (
        open_channel(settings.registry_address, token=settings.token_text, tls=settings.tls) as registry_channel,
        open_channel(settings.inferencer_address, token=settings.token_text, tls=settings.tls) as inferencer_channel,
    ):
        registry = GrpcRegistry(registry_channel, settings.worker_id, scorers.version)
        inferencer = GrpcInferencer(
            inferencer_channel,
            load_timeout=settings.load_timeout_seconds,
            generate_timeout=settings.generate_timeout_seconds,
        )
        client = await connect(settings, name="tunix-rt-evaluator")
        try:
            js = client.jetstream()
            await ensure_topology(js, (EVALUATE,))
            await until_reachable(registry_channel)
            ready.set()
            handler = EvaluateHandler(registry, inferencer, limits_of(settings), stop, scorers)
            await consume(js, EVALUATE, handler, workers=settings.evaluator_workers, stop=stop)
        finally:
            await client.close()
