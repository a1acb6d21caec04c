"""EvaluationService over gRPC, as `work.Recorder`."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from tunix_rt.evaluator.messages import result_message
from tunix_rt.evaluator.work import Result
from tunix_rt.rpc.errors import answered
from tunix_rt.v1 import evaluations_pb2, evaluations_pb2_grpc
from tunix_rt.worker.grpc_jobs import lease_message
from tunix_rt.worker.jobs import Lease

# The registry scores what it records; mathematics takes seconds at worst, for each answer.
_DEADLINE_SECONDS = 120.0


class GrpcRecorder:
    """Translates calls and errors; no retries beyond the channel's own."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        stub: evaluations_pb2_grpc.EvaluationServiceAsyncStub = evaluations_pb2_grpc.EvaluationServiceStub(channel)
        self._stub = stub

    async def record(self, lease: Lease, results: Sequence[Result]) -> None:
        request = evaluations_pb2.RecordItemsRequest(
            lease=lease_message(lease), results=[result_message(result) for result in results]
        )
        await answered(self._stub.RecordItems(request, timeout=_DEADLINE_SECONDS))
