"""EvaluationService: for clients, creating, reading, comparing, cancelling and following evaluations; for evaluators,
recording results under their lease.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry import quotas
from tunix_rt.registry.evalsets.tables import EvalSetItemRow
from tunix_rt.registry.evaluations import checks, items, rules
from tunix_rt.registry.evaluations.comparison import compare_evaluations, comparison_message
from tunix_rt.registry.evaluations.leaderboard import leaderboard, leaderboard_message
from tunix_rt.registry.evaluations.messages import (
    OUTCOMES,
    evaluation_message,
    item_result_message,
    item_result_row,
)
from tunix_rt.registry.evaluations.tables import EvaluationRow, ItemResultRow
from tunix_rt.registry.evaluations.verification import Verifier, items_to_verify
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.calls import Context, Dependencies, Servicer, caller, checked_id
from tunix_rt.registry.kernel.filters import FilterField, Kind, compile_filter, state_field
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.pages import Key, by_create_time
from tunix_rt.registry.kernel.states import JobState, is_terminal
from tunix_rt.registry.runs.tables import HYPERPARAMETER_KINDS
from tunix_rt.v1 import evaluations_pb2 as pb
from tunix_rt.v1 import evaluations_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["EvaluationService"].full_name

_EVALUATIONS: Final = Listing(
    pb.ListEvaluationsResponse,
    EvaluationRow,
    evaluation_message,
    orders={
        **by_create_time(EvaluationRow),
    },
    fields={
        "id": FilterField(EvaluationRow.id),
        "run_id": FilterField(EvaluationRow.run_id),
        "model_id": FilterField(EvaluationRow.model_id),
        "model_name": FilterField(EvaluationRow.model_name),
        "dataset_id": FilterField(EvaluationRow.dataset_id),
        "evalset_id": FilterField(EvaluationRow.evalset_id),
        "evalset_key": FilterField(EvaluationRow.evalset_key),
        "state": state_field(EvaluationRow.state, JobState),
        "project": FilterField(EvaluationRow.project),
        "primary_score": FilterField(EvaluationRow.primary_score, Kind.NUMBER),
        "create_time": FilterField(EvaluationRow.create_time, Kind.TIME),
        "end_time": FilterField(EvaluationRow.end_time, Kind.TIME),
        "tags": FilterField(EvaluationRow.tags, Kind.TAGS),
        "config": FilterField(EvaluationRow.config, Kind.OBJECT, members=HYPERPARAMETER_KINDS),
    },
)
_ITEM_RESULTS: Final = Listing(
    pb.ListItemResultsResponse,
    ItemResultRow,
    item_result_message,
    orders={"": (Key(col(EvalSetItemRow.position)), Key(col(ItemResultRow.sample_index)))},
    fields={
        "item_id": FilterField(ItemResultRow.item_id),
        "outcome": FilterField(ItemResultRow.outcome, Kind.ENUM, frozenset(OUTCOMES)),
        "answer_correctness": FilterField(ItemResultRow.answer_correctness, Kind.NUMBER),
    },
)


class EvaluationServicer(Servicer, evaluations_pb2_grpc.EvaluationServiceServicer):
    """Implements ``tunix_rt.v1.EvaluationService``."""

    def __init__(self, dependencies: Dependencies, verifier: Verifier) -> None:
        super().__init__(dependencies)
        self._verifier = verifier

    async def CreateEvaluation(self, request: pb.CreateEvaluationRequest, context: Context) -> pb.Evaluation:
        spec = checks.evaluation_spec(request)
        actor = caller()
        if request.validate_only:
            return await self.read(
                lambda session: evaluation_message(rules.check_evaluation(session, spec, actor=actor))
            )

        def create(session: Session) -> EvaluationRow:
            quotas.check_queued_jobs(session, self.settings)
            return rules.create_evaluation(session, spec, actor=actor)

        return await self.mutate(request, pb.Evaluation, create)

    async def GetEvaluation(self, request: pb.GetEvaluationRequest, context: Context) -> pb.Evaluation:
        checked_id(request.id)
        return await self.read(lambda session: evaluation_message(rules.get_evaluation(session, request.id)))

    async def ListEvaluations(self, request: pb.ListEvaluationsRequest, context: Context) -> pb.ListEvaluationsResponse:
        return await self.read(lambda session: _EVALUATIONS.answer(session, request))

    async def CancelEvaluation(self, request: pb.CancelEvaluationRequest, context: Context) -> pb.Evaluation:
        reason = checks.cancel_reason(request)
        actor = caller()
        return await self.mutate(
            request,
            pb.Evaluation,
            lambda session: rules.cancel_evaluation(
                session, request.id, reason=reason, message=request.message, actor=actor
            ),
        )

    async def ListItemResults(self, request: pb.ListItemResultsRequest, context: Context) -> pb.ListItemResultsResponse:
        checked_id(request.evaluation_id, "evaluation_id")

        def read(session: Session) -> pb.ListItemResultsResponse:
            evaluation = rules.get_evaluation(session, request.evaluation_id)
            return _ITEM_RESULTS.answer(session, request, items.results_in_order(evaluation), evaluation.id)

        return await self.read(read)

    async def WatchEvaluation(
        self, request: pb.WatchEvaluationRequest, context: Context
    ) -> AsyncIterator[pb.WatchEvaluationResponse]:
        checked_id(request.id)

        def read(session: Session) -> tuple[pb.WatchEvaluationResponse, bool]:
            evaluation = rules.get_evaluation(session, request.id)
            return pb.WatchEvaluationResponse(evaluation=evaluation_message(evaluation)), is_terminal(evaluation)

        async for response in self.follow([request.id], read):
            yield response

    async def GetLeaderboard(self, request: pb.GetLeaderboardRequest, context: Context) -> pb.Leaderboard:
        order = checks.leaderboard_order(request)

        def read(session: Session) -> pb.Leaderboard:
            board = leaderboard(
                session,
                evalset=request.evalset,
                generation_digest=request.generation_digest,
                scorer_version=request.scorer_version,
                order=order,
                condition=compile_filter(request.filter, _EVALUATIONS.fields),
                page_size=request.page_size,
                page_token=request.page_token,
                context=("leaderboard", request.filter),
            )
            return leaderboard_message(board)

        return await self.read(read)

    async def CompareEvaluations(self, request: pb.CompareEvaluationsRequest, context: Context) -> pb.Comparison:
        checks.check_compare(request)
        return await self.read(lambda session: comparison_message(compare_evaluations(session, request)))

    async def RecordItems(self, request: pb.RecordItemsRequest, context: Context) -> pb.RecordItemsResponse:
        lease = checks.recorded(request)
        known = await self.read(lambda session: items_to_verify(session, lease, request.results))
        findings = await self._verifier.verify(known, request.results)

        def record(session: Session) -> pb.RecordItemsResponse:
            evaluation = leases.check(session, EvaluationRow, lease)
            rows = [
                item_result_row(each, verified=found.verified)
                for each, found in zip(request.results, findings, strict=True)
            ]
            stored = items.record_items(session, evaluation, rows)
            new = [found for row, found in zip(rows, findings, strict=True) if row.evaluation_id]
            difference = next((found.difference for found in new if found.difference), "")
            if difference:
                rules.refuse(session, evaluation, difference)
            return pb.RecordItemsResponse(stored=stored)

        return await self.write(record)
