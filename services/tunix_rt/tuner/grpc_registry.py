"""The registry over gRPC, as `work.Registry`. The service's side only; see `trials` for Ray's driver."""

from __future__ import annotations

from importlib.metadata import version

import grpc

from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.tuner.trials import Lease
from tunix_rt.tuner.work import Ending, NotGranted, Progress, Sweep, Wishes
from tunix_rt.v1 import common_pb2, sweeps_pb2, sweeps_pb2_grpc


class GrpcRegistry:
    """Translates calls and errors; repeats nothing beyond the channel's own retries."""

    def __init__(self, channel: grpc.aio.Channel, worker_id: str) -> None:
        stub: sweeps_pb2_grpc.SweepServiceAsyncStub = sweeps_pb2_grpc.SweepServiceStub(channel)
        self._stub = stub
        self._worker_id = worker_id

    async def claim(self, sweep_id: str) -> Sweep | NotGranted:
        request = sweeps_pb2.ClaimSweepRequest(
            sweep_id=sweep_id, worker_id=self._worker_id, environment={"ray": version("ray")}
        )
        try:
            claim = await self._stub.ClaimSweep(request)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        if not claim.granted:
            return NotGranted(claim.retry_after_seconds)
        return Sweep(
            id=sweep_id,
            lease=Lease(claim.lease.job_id, claim.lease.attempt_id, claim.lease.epoch),
            spec=claim.sweep.spec,
        )

    async def progress(self, sweep_id: str) -> Progress:
        try:
            sweep = await self._stub.GetSweep(sweeps_pb2.GetSweepRequest(id=sweep_id), timeout=10)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        # A population makes more than it begins with.
        ended = min(sweep.n_succeeded + sweep.n_failed + sweep.n_stopped, sweep.trial_count)
        return Progress(ended, sweep.trial_count)

    async def heartbeat(self, lease: Lease, progress: Progress) -> Wishes:
        request = sweeps_pb2.HeartbeatSweepRequest(
            lease=_lease(lease),
            progress=common_pb2.Progress(
                done=progress.done, total=progress.total, unit="trials", stage="running trials"
            ),
        )
        try:
            answer = await self._stub.HeartbeatSweep(request, timeout=10)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        reason = common_pb2.Reason.Name(answer.cancel_reason).removeprefix("REASON_")
        return Wishes(answer.num_samples, reason if answer.cancel_requested else None, answer.paused)

    async def complete(self, lease: Lease, ending: Ending) -> None:
        request = sweeps_pb2.CompleteSweepRequest(
            lease=_lease(lease),
            state=common_pb2.JobState.Value(f"JOB_STATE_{ending.state}"),
            reason=common_pb2.Reason.Value(f"REASON_{ending.reason or 'UNSPECIFIED'}"),
            message=ending.message,
            retryable=ending.retryable,
        )
        try:
            await self._stub.CompleteSweep(request)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    async def release(self, lease: Lease, message: str) -> None:
        request = sweeps_pb2.ReleaseSweepRequest(lease=_lease(lease), message=message)
        try:
            await self._stub.ReleaseSweep(request, timeout=5)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


def _lease(lease: Lease) -> common_pb2.Lease:
    return common_pb2.Lease(job_id=lease.job_id, attempt_id=lease.attempt_id, epoch=lease.epoch)
