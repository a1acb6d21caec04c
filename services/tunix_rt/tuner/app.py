"""Wires the tuner: channel, consumer, servicer, health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from importlib.metadata import version

import grpc

from tunix_rt.bus.topology import TUNE
from tunix_rt.rpc.channel import open_channel
from tunix_rt.tuner.attempt import Limits, run_attempt
from tunix_rt.tuner.settings import TunerSettings
from tunix_rt.tuner.tuning_servicer import SERVICE, TuningServicer
from tunix_rt.v1 import tuning_pb2_grpc
from tunix_rt.v1.jobs_pb2 import JOB_KIND_SWEEP, SweepPayload
from tunix_rt.worker.claim import CarryOut, Claim
from tunix_rt.worker.grpc_jobs import GrpcJobs
from tunix_rt.worker.handler import JobHandler
from tunix_rt.worker.jobs import Ending
from tunix_rt.worker.service import consuming, serve_worker


def limits_of(settings: TunerSettings) -> Limits:
    """The limits as set. Ray's driver and actors read registry and token from their environment."""
    environment = {"TUNIX_RT_REGISTRY_ADDRESS": settings.registry_address}
    if settings.token_file is not None:
        environment["TUNIX_RT_TOKEN_FILE"] = str(settings.token_file.absolute())
    elif settings.token_text:
        environment["TUNIX_RT_TOKEN"] = settings.token_text
    return Limits(
        max_concurrent_trials=settings.tuner_max_concurrent_trials,
        ray_address=settings.ray_address,
        ray_num_cpus=settings.ray_num_cpus,
        environment=environment,
        ray_start_seconds=settings.ray_start_seconds,
    )


def tuning(limits: Limits) -> CarryOut[SweepPayload]:
    """What carries out sweeps."""

    async def carry_out(claim: Claim[SweepPayload], stop: asyncio.Event) -> Ending:
        return await run_attempt(claim, limits, stop)

    return carry_out


async def run(
    settings: TunerSettings, *, stop: asyncio.Event | None = None, on_bound: Callable[[int], None] | None = None
) -> None:
    """Serve until ``stop`` (SIGTERM) is set. Waits for NATS and the registry as long as it takes."""
    stop = stop or asyncio.Event()

    def register(server: grpc.aio.Server) -> Sequence[str]:
        tuning_pb2_grpc.add_TuningServiceServicer_to_server(TuningServicer(settings.ray_address), server)
        return (SERVICE,)

    async with open_channel(settings.registry_address, token=settings.token_source, tls=settings.tls) as registry:
        jobs = GrpcJobs(registry, JOB_KIND_SWEEP, settings.worker_id, environment={"ray": version("ray")})
        handler = JobHandler(jobs, tuning(limits_of(settings)), stop, heartbeat_seconds=settings.heartbeat_seconds)
        work = consuming(settings, registry, TUNE, handler, stop, name="tunix-rt-tuner", workers=settings.tuner_workers)
        await serve_worker(settings, work, register, stop=stop, on_bound=on_bound)
