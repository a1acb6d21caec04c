"""The registry over gRPC, as `work.Registry`. The only place of the evaluator that knows the registry's protobuf."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import grpc

from tunix_rt.evaluator.messages import items_of, result_message
from tunix_rt.evaluator.work import Cancelled, Ending, Evaluation, Lease, NotGranted, Progress, Result
from tunix_rt.quality.scorers import BUILT_IN_VERSION
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.v1 import common_pb2, evaluations_pb2, evaluations_pb2_grpc


class GrpcRegistry:
    """Translates calls and errors; repeats nothing beyond the channel's own retries. ``scorer_version`` is that of the
    scorers in force, which the registry must know by the same name."""

    def __init__(self, channel: grpc.aio.Channel, worker_id: str, scorer_version: str = BUILT_IN_VERSION) -> None:
        self._stub: evaluations_pb2_grpc.EvaluationServiceAsyncStub = evaluations_pb2_grpc.EvaluationServiceStub(
            channel
        )
        self._worker_id = worker_id
        self._scorer_version = scorer_version

    async def claim(self, evaluation_id: str) -> Evaluation | NotGranted:
        request = evaluations_pb2.ClaimEvaluationRequest(
            evaluation_id=evaluation_id,
            worker_id=self._worker_id,
            environment={"python": platform.python_version(), "scorer": self._scorer_version},
        )
        try:
            claim = await self._stub.ClaimEvaluation(request)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        if not claim.granted:
            return NotGranted(claim.retry_after_seconds)
        lease = Lease(claim.lease.job_id, claim.lease.attempt_id, claim.lease.epoch)
        return Evaluation(
            id=evaluation_id,
            lease=lease,
            items=items_of(sorted(claim.items, key=lambda item: item.index)),
            recorded=frozenset((pair.item_id, pair.sample_index) for pair in claim.recorded),
            samples_per_item=max(1, claim.evaluation.samples_per_item),
            model_reference=claim.model.uri or claim.model_reference,
            model_digest=claim.model.digest,
            seed=claim.evaluation.generation.seed,
            generation=claim.evaluation.generation,
        )

    async def heartbeat(self, lease: Lease, progress: Progress) -> Cancelled | None:
        request = evaluations_pb2.HeartbeatEvaluationRequest(
            lease=_lease(lease),
            progress=common_pb2.Progress(done=progress.done, total=progress.total, unit="items", stage=progress.stage),
        )
        try:
            answer = await self._stub.HeartbeatEvaluation(request, timeout=10)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        if not answer.cancel_requested:
            return None
        return Cancelled(common_pb2.Reason.Name(answer.cancel_reason).removeprefix("REASON_"))

    async def record(self, lease: Lease, results: Sequence[Result]) -> None:
        request = evaluations_pb2.RecordItemsRequest(
            lease=_lease(lease), results=[result_message(result) for result in results]
        )
        try:
            await self._stub.RecordItems(request)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    async def complete(self, lease: Lease, ending: Ending) -> None:
        request = evaluations_pb2.CompleteEvaluationRequest(
            lease=_lease(lease),
            state=common_pb2.JobState.Value(f"JOB_STATE_{ending.state}"),
            reason=common_pb2.Reason.Value(f"REASON_{ending.reason or 'UNSPECIFIED'}"),
            message=ending.message,
            model_digest=ending.model_digest,
            scorer_version=self._scorer_version,
            retryable=ending.retryable,
        )
        try:
            await self._stub.CompleteEvaluation(request)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    async def release(self, lease: Lease, message: str) -> None:
        request = evaluations_pb2.ReleaseEvaluationRequest(lease=_lease(lease), message=message)
        try:
            await self._stub.ReleaseEvaluation(request, timeout=5)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


def _lease(lease: Lease) -> common_pb2.Lease:
    return common_pb2.Lease(job_id=lease.job_id, attempt_id=lease.attempt_id, epoch=lease.epoch)
