"""Wires the trainer: channel, consumer of its pool, servicer, health."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence

import grpc

from tunix_rt.bus.topology import train_consumer
from tunix_rt.rpc.channel import open_channel
from tunix_rt.trainer.attempt import Attempt, Supervision
from tunix_rt.trainer.grpc_reports import GrpcRunReports
from tunix_rt.trainer.reporting import RunReports
from tunix_rt.trainer.revision import installed_revision
from tunix_rt.trainer.servicer import SERVICE, TrainingServicer
from tunix_rt.trainer.settings import TrainerSettings
from tunix_rt.trainer.software import software_versions
from tunix_rt.trainer.standby import stand_by
from tunix_rt.v1 import training_pb2_grpc
from tunix_rt.v1.jobs_pb2 import JOB_KIND_RUN, RunPayload
from tunix_rt.worker.claim import CarryOut, Claim
from tunix_rt.worker.grpc_jobs import GrpcJobs
from tunix_rt.worker.handler import JobHandler
from tunix_rt.worker.jobs import Ending
from tunix_rt.worker.service import Work, consuming, serve_worker


def supervision_of(settings: TrainerSettings, code_revision: str) -> Supervision:
    """How attempts are supervised, as set."""
    return Supervision(
        work_dir=settings.work_dir,
        cache_dir=settings.cache_root,
        artifacts_uri=settings.artifact_root,
        code_revision=code_revision,
        watch_retry_seconds=settings.heartbeat_seconds,
        report_seconds=settings.report_seconds,
        hand_back_seconds=settings.hand_back_seconds,
        cancel_seconds=settings.cancel_seconds,
        compilation_cache=settings.compilation_cache,
        simulated_devices=settings.simulated_devices,
        member=settings.member,
    )


def training(reports: RunReports, supervision: Supervision) -> CarryOut[RunPayload]:
    """What carries out runs."""

    async def carry_out(claim: Claim[RunPayload], stop: asyncio.Event) -> Ending:
        return await Attempt(claim, reports, supervision).run(stop)

    return carry_out


async def run(
    settings: TrainerSettings, *, stop: asyncio.Event | None = None, on_bound: Callable[[int], None] | None = None
) -> None:
    """Serve until ``stop`` (SIGTERM) is set. Waits for NATS and the registry as long as it takes, not ready till then.

    One attempt at a time: an accelerator is not shared. Scale by running more trainers.
    """
    stop = stop or asyncio.Event()
    # Left by a trainer at this address that was killed.
    await asyncio.to_thread(shutil.rmtree, settings.work_dir, ignore_errors=True)
    async with open_channel(settings.registry_address, token=settings.token_source, tls=settings.tls) as channel:
        revision = settings.code_revision or await asyncio.to_thread(installed_revision)
        jobs = GrpcJobs(channel, JOB_KIND_RUN, settings.worker_id, pool=settings.pool, environment=software_versions())
        carry_out = training(GrpcRunReports(channel), supervision_of(settings, revision))
        handler = JobHandler(jobs, carry_out, stop, heartbeat_seconds=settings.heartbeat_seconds)

        def register(server: grpc.aio.Server) -> Sequence[str]:
            servicer = TrainingServicer(
                settings.pool,
                settings.cache_root,
                lambda: next(iter(handler.running), ""),
                artifacts_uri=settings.artifact_root,
                simulated_devices=settings.simulated_devices,
                processes=settings.num_processes,
            )
            training_pb2_grpc.add_TrainingServiceServicer_to_server(servicer, server)
            return (SERVICE,)

        work = _standing_by(settings, stop) or consuming(
            settings, channel, train_consumer(settings.pool), handler, stop, name="tunix-rt-trainer"
        )
        await serve_worker(settings, work, register, stop=stop, on_bound=on_bound)


def _standing_by(settings: TrainerSettings, stop: asyncio.Event) -> Work | None:
    """The work of a follower, which takes no commands; None for a leader and for a trainer that trains alone."""
    member = settings.member
    if member is None or member.process_id == 0:
        return None

    async def work(ready: asyncio.Event) -> None:
        ready.set()
        await stand_by(settings, member, stop)

    return Work(work)
