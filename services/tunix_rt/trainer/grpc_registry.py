"""The registry over gRPC, as `work.Registry`. The only place of the trainer that knows the registry's protobuf."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Sequence
from importlib import metadata
from typing import TypeVar

import grpc
from google.protobuf import timestamp_pb2

from tunix_rt import __version__
from tunix_rt.artifacts import StoredArtifact, StoredFile
from tunix_rt.contract.messages import hyperparameters_of
from tunix_rt.errors import Transient
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.trainer.job import ArtifactRef, InitialCheckpoint
from tunix_rt.trainer.messages import CheckpointWritten, MetricsMeasured, ProgressMade
from tunix_rt.trainer.work import CancelAsked, ClaimedAttempt, Ending, Lease, LogRecord, NotGranted
from tunix_rt.v1 import common_pb2, runs_pb2, runs_pb2_grpc

T = TypeVar("T")
_LIBRARIES = ("jax", "flax", "optax", "grain", "orbax-checkpoint")
_HEARTBEAT_DEADLINE_SECONDS = 5.0


class GrpcRegistry:
    """Translates calls and errors; repeats nothing beyond the channel's own retries.

    ``code_revision`` goes into the lineage of every model.
    """

    def __init__(self, channel: grpc.aio.Channel, worker_id: str, pool: str, *, code_revision: str = "") -> None:
        self._stub: runs_pb2_grpc.RunServiceAsyncStub = runs_pb2_grpc.RunServiceStub(channel)
        self._worker_id, self._pool, self._code_revision = worker_id, pool, code_revision

    async def claim(self, run_id: str) -> ClaimedAttempt | NotGranted:
        request = runs_pb2.ClaimAttemptRequest(
            run_id=run_id, worker_id=self._worker_id, pool=self._pool, environment=software_versions()
        )
        claim = await _answer(self._stub.ClaimAttempt(request))
        if not claim.granted:
            return NotGranted(claim.retry_after_seconds)
        base = claim.base_model_artifact
        return ClaimedAttempt(
            lease=Lease(claim.lease.job_id, claim.lease.attempt_id, claim.lease.epoch),
            base_model=claim.run.spec.base_model,
            dataset_id=claim.dataset.id,
            dataset=_artifact_ref(claim.dataset.artifact),
            hyperparameters=hyperparameters_of(claim.run.spec.hyperparameters),
            spec_digest=claim.run.spec_digest,
            base_model_artifact=_artifact_ref(base) if base.uri else None,
            recorded_steps=tuple(checkpoint.step for checkpoint in claim.checkpoints),
            initial_checkpoint=_initial_checkpoint(claim),
        )

    async def heartbeat(self, lease: Lease, progress: ProgressMade) -> CancelAsked | None:
        request = runs_pb2.HeartbeatRequest(
            lease=_lease(lease),
            progress=common_pb2.Progress(done=progress.done, total=progress.total, unit="steps", stage=progress.stage),
        )
        answer = await _answer(self._stub.Heartbeat(request, timeout=_HEARTBEAT_DEADLINE_SECONDS))
        return _cancel_asked(answer.cancel_reason) if answer.cancel_requested else None

    async def cancellation(self, lease: Lease) -> CancelAsked:
        watching = self._stub.WatchRun(runs_pb2.WatchRunRequest(id=lease.job_id))
        try:
            async for answer in watching:
                if answer.run.state == common_pb2.JOB_STATE_CANCELLING:
                    return _cancel_asked(answer.run.reason)
        except grpc.RpcError as error:
            raise _translated(error) from error
        finally:
            watching.cancel()
        raise Transient("the registry has stopped telling")

    async def report_metrics(self, lease: Lease, rows: Sequence[MetricsMeasured]) -> None:
        points = [
            common_pb2.MetricPoint(key=key, step=row.step, value=value, time=_timestamp(row.time))
            for row in rows
            for key, value in row.values.items()
        ]
        await _answer(self._stub.ReportMetrics(runs_pb2.ReportMetricsRequest(lease=_lease(lease), points=points)))

    async def report_logs(self, lease: Lease, lines: Sequence[LogRecord]) -> None:
        messages = [
            common_pb2.LogLine(
                time=_timestamp(line.time),
                level=common_pb2.LogLevel.Value(f"LOG_LEVEL_{line.level.upper()}"),
                message=line.text,
                sequence=line.sequence,
                attempt=lease.epoch,
            )
            for line in lines
        ]
        await _answer(self._stub.ReportLogs(runs_pb2.ReportLogsRequest(lease=_lease(lease), lines=messages)))

    async def record_checkpoint(self, lease: Lease, checkpoint: CheckpointWritten) -> None:
        message = runs_pb2.Checkpoint(
            step=checkpoint.step,
            uri=checkpoint.uri,
            digest=checkpoint.digest,
            size_bytes=checkpoint.size_bytes,
            create_time=_now(),
        )
        request = runs_pb2.RecordCheckpointRequest(
            lease=_lease(lease), checkpoint=message, removed_steps=checkpoint.removed_steps
        )
        await _answer(self._stub.RecordCheckpoint(request))

    async def complete(self, lease: Lease, ending: Ending) -> None:
        request = runs_pb2.CompleteAttemptRequest(
            lease=_lease(lease),
            state=common_pb2.JobState.Value(f"JOB_STATE_{ending.state}"),
            reason=common_pb2.Reason.Value(f"REASON_{ending.reason or 'UNSPECIFIED'}"),
            message=ending.text,
            model=_artifact(ending.model) if ending.model is not None else None,
            step=ending.step,
            lineage={**ending.lineage, "code_revision": self._code_revision},
            retryable=ending.retryable,
        )
        await _answer(self._stub.CompleteAttempt(request))

    async def release(self, lease: Lease, text: str) -> None:
        await _answer(self._stub.ReleaseAttempt(runs_pb2.ReleaseAttemptRequest(lease=_lease(lease), message=text)))


def software_versions() -> dict[str, str]:
    """Versions that decide what a training step computes; read without importing anything."""
    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    return {"tunix_rt": __version__, "python": platform.python_version(), "machine": platform.machine(), **libraries}


def _cancel_asked(reason: common_pb2.Reason.ValueType) -> CancelAsked:
    return CancelAsked(common_pb2.Reason.Name(reason).removeprefix("REASON_"))


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.RpcError as error:
        raise _translated(error) from error


def _translated(error: grpc.RpcError) -> BaseException:
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # gRPC turns the cancellation of our own task into a status like any other.
        return asyncio.CancelledError()
    return from_rpc_error(error)


def _initial_checkpoint(claim: runs_pb2.ClaimAttemptResponse) -> InitialCheckpoint | None:
    if not claim.HasField("initial_checkpoint"):
        return None
    found = claim.initial_checkpoint
    return InitialCheckpoint(claim.run.spec.initial_checkpoint.run_id, found.step, found.uri, found.digest)


def _artifact_ref(artifact: common_pb2.Artifact) -> ArtifactRef:
    files = tuple(StoredFile(file.path, file.digest, file.size_bytes) for file in artifact.files)
    return ArtifactRef(artifact.uri, artifact.digest, files)


def _lease(lease: Lease) -> common_pb2.Lease:
    return common_pb2.Lease(job_id=lease.job_id, attempt_id=lease.attempt_id, epoch=lease.epoch)


def _artifact(stored: StoredArtifact) -> common_pb2.Artifact:
    files = [common_pb2.ArtifactFile(path=f.path, digest=f.digest, size_bytes=f.size_bytes) for f in stored.files]
    return common_pb2.Artifact(uri=stored.uri, digest=stored.digest, size_bytes=stored.size_bytes, files=files)


def _timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


def _now() -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.GetCurrentTime()
    return stamp
