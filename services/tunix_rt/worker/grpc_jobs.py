"""The registry's JobService over gRPC, as `jobs.Jobs`: translates calls and errors."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from tunix_rt.rpc.errors import answered
from tunix_rt.v1 import common_pb2, jobs_pb2, jobs_pb2_grpc
from tunix_rt.worker.jobs import Ending, Granted, HeartbeatAnswer, Lease, NotGranted, Progress

_HEARTBEAT_DEADLINE_SECONDS = 5.0
# The field for each kind's result, by the result's message type.
_RESULTS = {
    field.message_type.full_name: field.name
    for field in jobs_pb2.CompleteRequest.DESCRIPTOR.oneofs_by_name["result"].fields
    if field.message_type is not None
}


class GrpcJobs:
    """Claims jobs of one kind as one worker. No retries beyond the channel's own."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        kind: jobs_pb2.JobKind.ValueType,
        worker_id: str,
        *,
        pool: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._stub: jobs_pb2_grpc.JobServiceAsyncStub = jobs_pb2_grpc.JobServiceStub(channel)
        self._kind, self._worker_id, self._pool = kind, worker_id, pool
        self._environment = dict(environment or {})

    async def claim(self, job_id: str) -> Granted | NotGranted:
        request = jobs_pb2.ClaimRequest(
            job_id=job_id,
            worker_id=self._worker_id,
            pool=self._pool,
            environment=self._environment,
            kind=self._kind,
        )
        answer = await answered(self._stub.Claim(request))
        payload = answer.WhichOneof("payload")
        if not answer.granted or payload is None:
            return NotGranted(answer.retry_after_seconds)
        lease = lease_of(answer.lease)
        return Granted(lease, getattr(answer, payload))

    async def heartbeat(self, lease: Lease, progress: Progress | None, resumed_step: int) -> HeartbeatAnswer:
        request = jobs_pb2.HeartbeatRequest(lease=lease_message(lease), resumed_step=resumed_step)
        if progress is not None:
            request.progress.CopyFrom(
                common_pb2.Progress(done=progress.done, total=progress.total, unit=progress.unit, stage=progress.stage)
            )
        answer = await answered(self._stub.Heartbeat(request, timeout=_HEARTBEAT_DEADLINE_SECONDS))
        directives = answer.WhichOneof("directives")
        return HeartbeatAnswer(
            reason_name(answer.cancel_reason) if answer.cancel_requested else None,
            getattr(answer, directives) if directives is not None else None,
        )

    async def complete(self, lease: Lease, ending: Ending) -> None:
        request = jobs_pb2.CompleteRequest(
            lease=lease_message(lease),
            state=common_pb2.JobState.Value(f"JOB_STATE_{ending.state}"),
            reason=common_pb2.Reason.Value(f"REASON_{ending.reason or 'UNSPECIFIED'}"),
            message=ending.message,
            retryable=ending.retryable,
        )
        if ending.result is not None:
            getattr(request, _RESULTS[ending.result.DESCRIPTOR.full_name]).CopyFrom(ending.result)
        await answered(self._stub.Complete(request))

    async def release(self, lease: Lease, message: str) -> None:
        await answered(self._stub.Release(jobs_pb2.ReleaseRequest(lease=lease_message(lease), message=message)))


def lease_message(lease: Lease) -> common_pb2.Lease:
    """The credential that every write of an attempt carries."""
    return common_pb2.Lease(job_id=lease.job_id, attempt_id=lease.attempt_id, epoch=lease.epoch, secret=lease.secret)


def lease_of(message: common_pb2.Lease) -> Lease:
    """The lease that a claim was answered with."""
    return Lease(message.job_id, message.attempt_id, message.epoch, message.secret)


def reason_name(reason: common_pb2.Reason.ValueType) -> str:
    """Without its prefix."""
    return common_pb2.Reason.Name(reason).removeprefix("REASON_")
