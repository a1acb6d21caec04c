"""The registry over gRPC, as `work.Registry`. The service's side only; see `trials` for the child process."""

from __future__ import annotations

from importlib.metadata import version

import grpc

from tunix_rt.errors import Violations
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.search_space.messages import read_space
from tunix_rt.tuner.trials import Lease
from tunix_rt.tuner.work import Cancelled, Ending, NotGranted, Sweep
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
        spec = claim.sweep.spec
        # The registry has checked it; what is still wrong here shows in the child process.
        space = read_space(spec, Violations())
        return Sweep(
            id=sweep_id,
            lease=Lease(claim.lease.job_id, claim.lease.attempt_id, claim.lease.epoch),
            space=space,
            seed=spec.seed,
            mode="min" if spec.objective.mode == sweeps_pb2.OBJECTIVE_MODE_MIN else "max",
            max_concurrent=max(1, spec.max_concurrent_trials),
        )

    async def ended_trials(self, sweep_id: str) -> int:
        try:
            sweep = await self._stub.GetSweep(sweeps_pb2.GetSweepRequest(id=sweep_id), timeout=10)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return sweep.n_succeeded + sweep.n_failed

    async def heartbeat(self, lease: Lease, done: int, total: int) -> Cancelled | None:
        request = sweeps_pb2.HeartbeatSweepRequest(
            lease=_lease(lease),
            progress=common_pb2.Progress(done=done, total=total, unit="trials", stage="running trials"),
        )
        try:
            answer = await self._stub.HeartbeatSweep(request, timeout=10)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        if not answer.cancel_requested:
            return None
        return Cancelled(common_pb2.Reason.Name(answer.cancel_reason).removeprefix("REASON_"))

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
