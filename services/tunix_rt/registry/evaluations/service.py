"""EvaluationService over gRPC: what people and clients call; `evaluation_workers` has the workers' part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry.evalsets.tables import EvalSetItemRow
from tunix_rt.registry.evaluations import checks as validation
from tunix_rt.registry.evaluations import rules as evaluations
from tunix_rt.registry.evaluations.comparison import compare_evaluations
from tunix_rt.registry.evaluations.comparison_messages import comparison_message, leaderboard_message
from tunix_rt.registry.evaluations.items import results_in_order
from tunix_rt.registry.evaluations.leaderboard import leaderboard
from tunix_rt.registry.evaluations.messages import OUTCOMES, evaluation_message, item_result_message
from tunix_rt.registry.evaluations.tables import EvaluationRow, ItemResultRow
from tunix_rt.registry.evaluations.worker_service import EvaluationWorkerServicer
from tunix_rt.registry.kernel.calls import caller, follow
from tunix_rt.registry.kernel.fields import require_id
from tunix_rt.registry.kernel.filters import FilterField, Kind, compile_filter, state_field
from tunix_rt.registry.kernel.idempotency import answer_once
from tunix_rt.registry.kernel.pages import Key, choose_order, context_digest, page
from tunix_rt.registry.kernel.states import JobState, is_terminal
from tunix_rt.registry.runs.configs import KINDS
from tunix_rt.v1 import evaluations_pb2 as pb

SERVICE: Final = pb.DESCRIPTOR.services_by_name["EvaluationService"].full_name

_FILTER: Final = {
    "id": FilterField(EvaluationRow.id),
    "run_id": FilterField(EvaluationRow.run_id),
    "model_id": FilterField(EvaluationRow.model_id),
    "model_name": FilterField(EvaluationRow.model_name),
    "dataset_id": FilterField(EvaluationRow.dataset_id),
    "evalset_id": FilterField(EvaluationRow.evalset_id),
    "evalset_key": FilterField(EvaluationRow.evalset_key),
    "state": state_field(EvaluationRow.state, JobState),
    "primary_score": FilterField(EvaluationRow.primary_score, Kind.NUMBER),
    "create_time": FilterField(EvaluationRow.create_time, Kind.TIME),
    "end_time": FilterField(EvaluationRow.end_time, Kind.TIME),
    "tags": FilterField(EvaluationRow.tags, Kind.TAGS),
    "config": FilterField(EvaluationRow.config, Kind.OBJECT, members=KINDS),
}
_ITEM_FILTER: Final = {
    "item_id": FilterField(ItemResultRow.item_id),
    "outcome": FilterField(ItemResultRow.outcome, Kind.ENUM, frozenset(OUTCOMES)),
    "answer_correctness": FilterField(ItemResultRow.answer_correctness, Kind.NUMBER),
}
_ID = col(EvaluationRow.id)
_ORDERS: Final = {
    "create_time desc": (Key(col(EvaluationRow.create_time), descending=True), Key(_ID, descending=True)),
    "create_time": (Key(col(EvaluationRow.create_time)), Key(_ID)),
}


class EvaluationServicer(EvaluationWorkerServicer):
    """The registry's EvaluationService."""

    async def CreateEvaluation(
        self, request: pb.CreateEvaluationRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Evaluation:
        spec = validation.evaluation_spec(request)
        actor = caller()
        if request.validate_only:
            return await self._database.run_read(
                lambda s: evaluation_message(evaluations.check_evaluation(s, spec, actor=actor))
            )

        def work(session: Session) -> pb.Evaluation:
            def answer() -> pb.Evaluation:
                return evaluation_message(evaluations.create_evaluation(session, spec, actor=actor))

            return answer_once(session, "CreateEvaluation", request, answer, pb.Evaluation)

        return await self._database.run_write(work)

    async def GetEvaluation(
        self, request: pb.GetEvaluationRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Evaluation:
        require_id(request.id)
        return await self._database.run_read(lambda s: evaluation_message(evaluations.get_evaluation(s, request.id)))

    async def ListEvaluations(
        self, request: pb.ListEvaluationsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListEvaluationsResponse:
        def work(session: Session) -> pb.ListEvaluationsResponse:
            rows, token = page(
                session,
                select(EvaluationRow).where(compile_filter(request.filter, _FILTER)),
                choose_order(request.order_by, _ORDERS),
                request.page_size,
                request.page_token,
                context_digest("evaluations", request.filter, request.order_by),
            )
            return pb.ListEvaluationsResponse(evaluations=map(evaluation_message, rows), next_page_token=token)

        return await self._database.run_read(work)

    async def CancelEvaluation(
        self, request: pb.CancelEvaluationRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Evaluation:
        reason = validation.cancel_reason(request)
        actor = caller()

        def work(session: Session) -> pb.Evaluation:
            def answer() -> pb.Evaluation:
                row = evaluations.cancel_evaluation(
                    session,
                    request.id,
                    reason=reason,
                    message=request.message,
                    actor=actor,
                )
                return evaluation_message(row)

            return answer_once(session, "CancelEvaluation", request, answer, pb.Evaluation)

        return await self._database.run_write(work)

    async def ListItemResults(
        self, request: pb.ListItemResultsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListItemResultsResponse:
        require_id(request.evaluation_id, "evaluation_id")

        def work(session: Session) -> pb.ListItemResultsResponse:
            row = evaluations.get_evaluation(session, request.evaluation_id)
            rows, token = page(
                session,
                results_in_order(row).where(compile_filter(request.filter, _ITEM_FILTER)),
                (Key(col(EvalSetItemRow.position)), Key(col(ItemResultRow.sample_index))),
                request.page_size,
                request.page_token,
                context_digest("item results", row.id, request.filter),
            )
            return pb.ListItemResultsResponse(results=map(item_result_message, rows), next_page_token=token)

        return await self._database.run_read(work)

    async def WatchEvaluation(
        self, request: pb.WatchEvaluationRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.WatchEvaluationResponse]:
        require_id(request.id)

        def read(session: Session) -> tuple[pb.WatchEvaluationResponse, bool]:
            row = evaluations.get_evaluation(session, request.id)
            return pb.WatchEvaluationResponse(evaluation=evaluation_message(row)), is_terminal(row)

        async for response in follow(self._database, [request.id], read):
            yield response

    async def GetLeaderboard(
        self, request: pb.GetLeaderboardRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Leaderboard:
        order = validation.leaderboard_order(request)

        def work(session: Session) -> pb.Leaderboard:
            board = leaderboard(
                session,
                evalset=request.evalset,
                generation_digest=request.generation_digest,
                scorer_version=request.scorer_version,
                order=order,
                condition=compile_filter(request.filter, _FILTER),
                page_size=request.page_size,
                page_token=request.page_token,
                context=("leaderboard", request.filter),
            )
            return leaderboard_message(board)

        return await self._database.run_read(work)

    async def CompareEvaluations(
        self, request: pb.CompareEvaluationsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Comparison:
        validation.check_compare(request)
        return await self._database.run_read(lambda s: comparison_message(compare_evaluations(s, request)))
