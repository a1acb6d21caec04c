"""A trainer that trains nothing: it claims runs, reports an objective of their hyperparameters, and completes them.

    python stub_trainer.py WORKERS        with the platform's TUNIX_RT_* variables; ends at SIGTERM

Everything but the training is real: commands from JetStream, lease, metric, completion with a registered model.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys

from google.protobuf import timestamp_pb2

from tunix_rt.bus.connection import connect
from tunix_rt.bus.consume import consume
from tunix_rt.bus.topology import train_consumer
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.server import stop_on_signals
from tunix_rt.rpc.waiting import until_reachable
from tunix_rt.v1 import common_pb2, jobs_pb2, runs_pb2, runs_pb2_grpc
from tunix_rt.worker.claim import Claim
from tunix_rt.worker.grpc_jobs import GrpcJobs, lease_message
from tunix_rt.worker.handler import JobHandler
from tunix_rt.worker.jobs import Ending
from tunix_rt.worker.settings import WorkerSettings

OBJECTIVE = "objective"


def objective(learning_rate: float, weight_decay: float) -> float:
    """What a trial is worth: a bowl with its bottom inside the search space."""
    return 1.0 - (learning_rate - 3e-3) ** 2 * 1e4 - (weight_decay - 0.05) ** 2


def _model_of(run_id: str, root: str) -> common_pb2.Artifact:
    file = common_pb2.ArtifactFile(
        path="model.safetensors", digest="sha256:" + hashlib.sha256(run_id.encode()).hexdigest(), size_bytes=1
    )
    line = f"{file.digest.removeprefix('sha256:')}  {file.path}\n"
    digest = "sha256:" + hashlib.sha256(line.encode()).hexdigest()
    return common_pb2.Artifact(uri=f"{root}/models/{run_id}", digest=digest, size_bytes=1, files=[file])


class StubTrainer:
    """Carries out runs."""

    def __init__(self, stub: runs_pb2_grpc.RunServiceAsyncStub, artifact_root: str) -> None:
        self._runs = stub
        self._artifact_root = artifact_root

    async def carry_out(self, claim: Claim[jobs_pb2.RunPayload], stop: asyncio.Event) -> Ending:
        """Report the objective and succeed."""
        given = claim.payload.run.spec.hyperparameters
        now = timestamp_pb2.Timestamp()
        now.GetCurrentTime()
        point = common_pb2.MetricPoint(
            key=OBJECTIVE, step=1, value=objective(given.learning_rate, given.weight_decay), time=now
        )
        lease = lease_message(claim.lease)
        await self._runs.ReportMetrics(runs_pb2.ReportMetricsRequest(lease=lease, points=[point]))
        result = jobs_pb2.RunResult(model=_model_of(claim.lease.job_id, self._artifact_root), step=1)
        return Ending("SUCCEEDED", result=result)


async def main(workers: int) -> None:
    """Serve the pool "cpu" until SIGTERM."""
    settings = WorkerSettings()
    stop = asyncio.Event()
    consumer = train_consumer("cpu")
    with stop_on_signals(stop):
        async with open_channel(settings.registry_address, token=settings.token_text) as channel:
            await until_reachable(channel)
            client = await connect(settings, name="stub-trainer")
            try:
                js = client.jetstream()
                trainer = StubTrainer(runs_pb2_grpc.RunServiceStub(channel), settings.artifact_root)
                jobs = GrpcJobs(channel, jobs_pb2.JOB_KIND_RUN, "stub-trainer", pool="cpu")
                handler = JobHandler(jobs, trainer.carry_out, stop, heartbeat_seconds=settings.heartbeat_seconds)
                await consume(js, consumer, handler, workers=workers, stop=stop)
            finally:
                await client.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
