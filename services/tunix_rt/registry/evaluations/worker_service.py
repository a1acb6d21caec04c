"""The part of EvaluationService that evaluators call: claim, heartbeat, record, complete, release."""

from __future__ import annotations

from typing import Any

import grpc
from sqlalchemy.orm import Session

from tunix_rt.registry.evalsets.messages import item_message
from tunix_rt.registry.evalsets.rules import items_of
from tunix_rt.registry.evaluations import checks as validation
from tunix_rt.registry.evaluations import items
from tunix_rt.registry.evaluations.completion import complete_evaluation
from tunix_rt.registry.evaluations.messages import evaluation_message
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.artifact_messages import artifact_message
from tunix_rt.registry.kernel.dependencies import Dependencies
from tunix_rt.registry.kernel.job_messages import lease_message, read_heartbeat, reason_value
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.v1 import evaluations_pb2 as pb
from tunix_rt.v1 import evaluations_pb2_grpc as pb_grpc


class EvaluationWorkerServicer(pb_grpc.EvaluationServiceServicer):
    """Base of the EvaluationService that serves workers; every write is fenced by the caller's lease."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._database = dependencies.database
        self._ttl = dependencies.settings.lease_ttl

    async def ClaimEvaluation(
        self, request: pb.ClaimEvaluationRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ClaimEvaluationResponse:
        validation.check_claim(request)

        def work(session: Session) -> pb.ClaimEvaluationResponse:
            row, claim = leases.claim(
                session,
                EvaluationRow,
                request.evaluation_id,
                worker_id=request.worker_id,
                environment=dict(request.environment),
                ttl=self._ttl,
            )
            if claim.lease is None:
                return pb.ClaimEvaluationResponse(
                    granted=False,
                    evaluation=evaluation_message(row),
                    retry_after_seconds=claim.retry_after_seconds,
                )
            model = session.get_one(ModelVersionRow, row.model_id)
            return pb.ClaimEvaluationResponse(
                granted=True,
                lease=lease_message(claim.lease),
                evaluation=evaluation_message(row),
                model=artifact_message(model.uri, model.digest, model.size_bytes, model.files),
                model_reference=model.reference,
                items=[item_message(item) for item in items_of(session, row.evalset_id)],
                recorded=[
                    pb.RecordedItem(item_id=item_id, sample_index=sample)
                    for item_id, sample in items.recorded_pairs(session, row.id)
                ],
            )

        return await self._database.run_write(work)

    async def HeartbeatEvaluation(
        self, request: pb.HeartbeatEvaluationRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.HeartbeatEvaluationResponse:
        lease, progress = read_heartbeat(request)

        def work(session: Session) -> pb.HeartbeatEvaluationResponse:
            row, extended = leases.heartbeat(session, EvaluationRow, lease, progress=progress, ttl=self._ttl)
            return pb.HeartbeatEvaluationResponse(
                lease=lease_message(extended),
                cancel_requested=row.state == JobState.CANCELLING,
                cancel_reason=reason_value(row.cancel_reason),
            )

        return await self._database.run_write(work)

    async def RecordItems(
        self, request: pb.RecordItemsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RecordItemsResponse:
        lease, results = validation.new_results(request)

        def work(session: Session) -> pb.RecordItemsResponse:
            row = leases.check(session, EvaluationRow, lease)
            return pb.RecordItemsResponse(stored=items.record_items(session, row, results))

        return await self._database.run_write(work)

    async def CompleteEvaluation(
        self, request: pb.CompleteEvaluationRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Evaluation:
        lease, report = validation.completion(request)
        return await self._database.run_write(lambda s: evaluation_message(complete_evaluation(s, lease, report)))

    async def ReleaseEvaluation(
        self, request: pb.ReleaseEvaluationRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReleaseEvaluationResponse:
        lease = validation.released(request)

        def work(session: Session) -> pb.ReleaseEvaluationResponse:
            leases.release(session, EvaluationRow, lease, message=request.message)
            return pb.ReleaseEvaluationResponse()

        return await self._database.run_write(work)
