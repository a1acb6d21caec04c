"""A trainer whose training takes no time: ``python -m tests.chaos.quick_trainer``, settings as of a trainer.

Everything but the training itself is the real one: the consumer of its pool, the claim, the heartbeats, the reports and
the completion. It logs a loss for each step, and its model is a copy of the directory that QUICK_TRAINER_MODEL names
with the run's id in it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.bus.connection import connect
from tunix_rt.bus.consume import consume
from tunix_rt.bus.topology import train_consumer
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.server import stop_on_signals
from tunix_rt.trainer.grpc_reports import GrpcRunReports
from tunix_rt.trainer.job_messages import run_result
from tunix_rt.trainer.messages import MetricsMeasured
from tunix_rt.trainer.settings import TrainerSettings
from tunix_rt.v1.jobs_pb2 import JOB_KIND_RUN, RunPayload
from tunix_rt.worker.claim import CarryOut, Claim, unless_interrupted
from tunix_rt.worker.grpc_jobs import GrpcJobs
from tunix_rt.worker.handler import JobHandler
from tunix_rt.worker.jobs import Ending, Progress
from tunix_rt.worker.retries import RetryPolicy

STEP_SECONDS = 0.02


def training(reports: GrpcRunReports, store: ArtifactStore, template: Path) -> CarryOut[RunPayload]:
    async def train(claim: Claim[RunPayload]) -> Ending:
        run, retries = claim.payload.run, RetryPolicy("the registry")
        steps = run.spec.hyperparameters.max_steps
        for step in range(1, steps + 1):
            row = MetricsMeasured(step, time.time(), {"loss": 1 / step})
            await retries.call(lambda row=row: reports.metrics(claim.lease, [row]))  # type: ignore[misc]
            claim.progress = lambda step=step: Progress(step, steps, "steps")  # type: ignore[misc]
            await asyncio.sleep(STEP_SECONDS)
        model = await asyncio.to_thread(copied, run.id)
        return Ending("SUCCEEDED", result=run_result(steps, model, {"code_revision": "quick"}))

    def copied(run_id: str):  # type: ignore[no-untyped-def]
        with tempfile.TemporaryDirectory() as place:
            directory = Path(place) / "model"
            shutil.copytree(template, directory)
            (directory / "of_run.txt").write_text(run_id)
            return store.put_directory(directory)

    return lambda claim, stop: unless_interrupted(train(claim), claim, stop)


async def run(settings: TrainerSettings, template: Path) -> None:
    stop = asyncio.Event()
    with stop_on_signals(stop):
        async with open_channel(settings.registry_address, token=settings.token_source, tls=settings.tls) as channel:
            store = ArtifactStore(settings.artifact_root)
            carry_out = training(GrpcRunReports(channel), store, template)
            jobs = GrpcJobs(channel, JOB_KIND_RUN, settings.worker_id, pool=settings.pool)
            handler = JobHandler(jobs, carry_out, stop, heartbeat_seconds=settings.heartbeat_seconds)
            client = await connect(settings, name="quick-trainer")
            try:
                await consume(client.jetstream(), train_consumer(settings.pool), handler, workers=4, stop=stop)
            finally:
                await client.close()


if __name__ == "__main__":
    asyncio.run(run(TrainerSettings(), Path(os.environ["QUICK_TRAINER_MODEL"])))
