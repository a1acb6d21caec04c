"""EvaluationService: for clients, creating, reading, comparing, cancelling and following evaluations; for evaluators,
recording results under their lease.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.bus.topology import EVALUATE_SUBJECT
from tunix_rt.registry import quotas
from tunix_rt.registry.evalsets.tables import EvalSetItemRow
from tunix_rt.registry.evaluations import checks, items, past_scores, rescore, rules
from tunix_rt.registry.evaluations.comparison import compare_evaluations, comparison_message
from tunix_rt.registry.evaluations.leaderboard import leaderboard, leaderboard_message
from tunix_rt.registry.evaluations.messages import (
    OUTCOMES,
    evaluation_message,
    item_result_message,
    item_result_row,
)
from tunix_rt.registry.evaluations.rescorings import Rescorings
from tunix_rt.registry.evaluations.tables import EvaluationRow, ItemResultRow
from tunix_rt.registry.evaluations.verification import Verifier, items_to_verify
from tunix_rt.registry.gates import baselines
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.archive import archived_field
from tunix_rt.registry.kernel.calls import Context, Dependencies, Servicer, caller, checked_id
from tunix_rt.registry.kernel.filters import FilterField, Kind, compile_filter, state_field
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.messages import check_retry
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
        **archived_field(EvaluationRow),
        "primary_score": FilterField(EvaluationRow.primary_score, Kind.NUMBER),
        "scorer_version": FilterField(EvaluationRow.scorer_version),
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
        self._rescorings = Rescorings(verifier.score)

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

        return self._shown(await self.mutate(request, pb.Evaluation, create))

    async def GetEvaluation(self, request: pb.GetEvaluationRequest, context: Context) -> pb.Evaluation:
        checked_id(request.id)
        found = await self.read(lambda session: evaluation_message(rules.get_evaluation(session, request.id)))
        return self._shown(found)

    async def ListEvaluations(self, request: pb.ListEvaluationsRequest, context: Context) -> pb.ListEvaluationsResponse:
        found = await self.read(lambda session: _EVALUATIONS.answer(session, request))
        for evaluation in found.evaluations:
            self._shown(evaluation)
        return found

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

    async def RetryEvaluation(self, request: pb.RetryEvaluationRequest, context: Context) -> pb.Evaluation:
        check_retry(request)
        actor = caller()

        def retry(session: Session) -> EvaluationRow:
            quotas.check_queued_jobs(session, self.settings)
            return rules.retry_evaluation(
                session, request.id, given_etag=request.etag, message=request.message, actor=actor
            )

        return await self.mutate(request, pb.Evaluation, retry)

    def _shown(self, evaluation: pb.Evaluation) -> pb.Evaluation:
        """The evaluation, with what is known of who evaluates."""
        self.unserved.warn(evaluation, EVALUATE_SUBJECT)
        return evaluation

    async def RescoreEvaluation(
        self, request: pb.RescoreEvaluationRequest, context: Context
    ) -> AsyncIterator[pb.RescoreEvaluationResponse]:
        checks.check_rescore(request)
        actor = caller()
        found = await self.read(lambda session: rescore.begin(session, request.id))
        total = 0 if found is None else found.total
        answer = pb.RescoreEvaluationResponse

        def put_in_place(session: Session, changed: Sequence[Mapping[str, Any]]) -> pb.RescoreEvaluationResponse:
            row = rules.get_evaluation(session, request.id)
            if found is not None:
                former = found.scorer_version
                row = rescore.put_in_place(session, found, changed, actor=actor)
                baselines.follow_score(session, row, former)
            return answer(done=total, total=total, evaluation=self._shown(evaluation_message(row)))

        async def finish(changed: Sequence[Mapping[str, Any]]) -> pb.RescoreEvaluationResponse:
            return await self.mutate(request, answer, lambda session: put_in_place(session, changed))

        if found is None:
            yield await finish([])
            return
        async for done, finished in self._rescorings.follow(found, self.read, finish):
            yield finished or answer(done=done, total=total)

    async def ListPastScores(self, request: pb.ListPastScoresRequest, context: Context) -> pb.ListPastScoresResponse:
        checked_id(request.evaluation_id, "evaluation_id")

        def read(session: Session) -> pb.ListPastScoresResponse:
            evaluation = rules.get_evaluation(session, request.evaluation_id)
            listing = past_scores.past_scores_of(evaluation)
            return listing.answer(session, request, past_scores.past_scores(evaluation), evaluation.id)

        return await self.read(read)

    async def ListItemResults(self, request: pb.ListItemResultsRequest, context: Context) -> pb.ListItemResultsResponse:
        checks.check_item_results(request)

        def read(session: Session) -> pb.ListItemResultsResponse:
            evaluation = rules.get_evaluation(session, request.evaluation_id)
            version = request.scorer_version
            if version in ("", evaluation.scorer_version):
                return _ITEM_RESULTS.answer(session, request, items.results_in_order(evaluation), evaluation.id)
            found = past_scores.items_in_order(session, evaluation, version)
            return past_scores.PAST_ITEM_RESULTS.answer(session, request, found, evaluation.id, version)

        return await self.read(read)

    async def WatchEvaluation(
        self, request: pb.WatchEvaluationRequest, context: Context
    ) -> AsyncIterator[pb.WatchEvaluationResponse]:
        checked_id(request.id)

        def read(session: Session) -> tuple[pb.WatchEvaluationResponse, bool]:
            evaluation = rules.get_evaluation(session, request.id)
            shown = self._shown(evaluation_message(evaluation))
            return pb.WatchEvaluationResponse(evaluation=shown), is_terminal(evaluation)

        async for response in self.follow([request.id], read, shared=request.id):
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
                every_evaluation=request.every_evaluation,
                with_differences=request.with_differences,
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
