"""Wires the evaluator: channels, consumer, servicer, health."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Sequence

import grpc

from tunix_rt.bus.topology import EVALUATE
from tunix_rt.evaluator.attempt import Attempt, Limits
from tunix_rt.evaluator.grpc_inferencer import GrpcInferencer
from tunix_rt.evaluator.grpc_recorder import GrpcRecorder
from tunix_rt.evaluator.scoring_servicer import SERVICE, ScoringServicer
from tunix_rt.evaluator.settings import EvaluatorSettings
from tunix_rt.evaluator.work import Inferencer, Recorder
from tunix_rt.quality.scorer_plugins import installed_scorers
from tunix_rt.quality.scorers import ScorerSet
from tunix_rt.rpc.channel import open_channel
from tunix_rt.v1 import scoring_pb2_grpc
from tunix_rt.v1.jobs_pb2 import JOB_KIND_EVALUATION, EvaluationPayload
from tunix_rt.worker.claim import CarryOut, Claim
from tunix_rt.worker.grpc_jobs import GrpcJobs
from tunix_rt.worker.handler import JobHandler
from tunix_rt.worker.jobs import Ending
from tunix_rt.worker.service import consuming, serve_worker


def limits_of(settings: EvaluatorSettings) -> Limits:
    """The engine's limits as set."""
    return Limits(
        concurrency=settings.evaluator_concurrency,
        batch=settings.evaluator_batch,
        item_tries=settings.item_tries,
        inferencer_patience_seconds=settings.inferencer_patience_seconds,
    )


def evaluating(
    recorder: Recorder, inferencer_of: Callable[[str], Inferencer], limits: Limits, scorers: ScorerSet
) -> CarryOut[EvaluationPayload]:
    """What carries out evaluations; ``inferencer_of`` is asked for the inferencer as a project sees it."""

    async def carry_out(claim: Claim[EvaluationPayload], stop: asyncio.Event) -> Ending:
        inferencer = inferencer_of(claim.payload.evaluation.project)
        return await Attempt(claim, recorder, inferencer, limits, scorers).run(stop)

    return carry_out


async def run(
    settings: EvaluatorSettings, *, stop: asyncio.Event | None = None, on_bound: Callable[[int], None] | None = None
) -> None:
    """Serve until ``stop`` (SIGTERM) is set. Waits for NATS and the registry as long as it takes.

    Raises `FailedPrecondition` at once when an installed third-party scorer cannot be used.
    """
    scorers = installed_scorers()
    stop = stop or asyncio.Event()

    def register(server: grpc.aio.Server) -> Sequence[str]:
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(ScoringServicer(scorers), server)
        return (SERVICE,)

    token, tls = settings.token_source, settings.tls
    async with (
        open_channel(settings.registry_address, token=token, tls=tls) as registry,
        open_channel(settings.inferencer_address, token=token, tls=tls) as inferencer_channel,
    ):
        inferencer = GrpcInferencer(
            inferencer_channel,
            load_timeout=settings.load_timeout_seconds,
            generate_timeout=settings.generate_timeout_seconds,
        )
        environment = {"python": platform.python_version(), "scorer": scorers.version}
        jobs = GrpcJobs(registry, JOB_KIND_EVALUATION, settings.worker_id, environment=environment)
        carry_out = evaluating(GrpcRecorder(registry), inferencer.of_project, limits_of(settings), scorers)
        handler = JobHandler(jobs, carry_out, stop, heartbeat_seconds=settings.heartbeat_seconds)
        work = consuming(
            settings, registry, EVALUATE, handler, stop, name="tunix-rt-evaluator", workers=settings.evaluator_workers
        )
        await serve_worker(settings, work, register, stop=stop, on_bound=on_bound)
