"""Methods on evaluations, the leaderboard and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tunix_rt.client.arguments import to_message
from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.jobs import has_ended
from tunix_rt.client.operations import (
    Call,
    Flow,
    Follow,
    Last,
    Pages,
    Steps,
    followed,
    new_request_id,
    paged,
    unary,
)
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import evaluations_pb2 as pb
from tunix_rt.v1.evaluations_pb2_grpc import EvaluationServiceStub as Stub


def _followed(id: str) -> Follow[pb.Evaluation]:
    return followed(
        Stub,
        lambda stub: stub.WatchEvaluation,
        lambda last: pb.WatchEvaluationRequest(id=id),
        lambda update: update.evaluation,
        has_ended,
    )


class Evaluations(Group[Mode]):
    """``client.evaluations``"""

    @one
    @staticmethod
    def create(
        model: str,
        evalset: str,
        *,
        generation: common_pb2.GenerationConfig | Mapping[str, Any] | None = None,
        threshold: float | None = None,
        samples_per_item: int = 0,
        tags: Mapping[str, str] | None = None,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> Call[pb.Evaluation]:
        """Queue an evaluation of a model (version id, or a reference such as pkg://NAME) on an evalset (id or key)."""
        request = pb.CreateEvaluationRequest(
            request_id=new_request_id(request_id),
            model=model,
            evalset=evalset,
            generation=to_message(common_pb2.GenerationConfig, generation, "generation"),
            threshold=threshold,
            samples_per_item=samples_per_item,
            tags=tags,
            validate_only=validate_only,
        )
        return unary(Stub, lambda stub: stub.CreateEvaluation, request)

    @one
    @staticmethod
    def get(id: str) -> Call[pb.Evaluation]:
        """One evaluation; its scorecard is set once it has SUCCEEDED."""
        return unary(Stub, lambda stub: stub.GetEvaluation, pb.GetEvaluationRequest(id=id))

    @many
    @staticmethod
    def list(
        *, filter: str = "", order_by: str = "", page_size: int = 0, limit: int | None = None
    ) -> Pages[pb.Evaluation]:
        """Evaluations; fields: id, run_id, model_id, model_name, dataset_id, evalset_id, evalset_key, state,
        primary_score, create_time, end_time, tags.NAME, config.NAME (a hyperparameter of the run)."""
        request = pb.ListEvaluationsRequest(page_size=page_size, filter=filter, order_by=order_by)
        return paged(Stub, lambda stub: stub.ListEvaluations, request, lambda page: page.evaluations, limit=limit)

    @one
    @staticmethod
    def cancel(id: str, *, message: str = "", request_id: str | None = None) -> Call[pb.Evaluation]:
        """Ask for the evaluation's end."""
        request = pb.CancelEvaluationRequest(request_id=new_request_id(request_id), id=id, message=message)
        return unary(Stub, lambda stub: stub.CancelEvaluation, request)

    @many
    @staticmethod
    def items(id: str, *, filter: str = "", page_size: int = 0, limit: int | None = None) -> Pages[pb.ItemResult]:
        """What the model answered, item by item; fields: item_id, outcome, answer_correctness."""
        request = pb.ListItemResultsRequest(evaluation_id=id, page_size=page_size, filter=filter)
        return paged(Stub, lambda stub: stub.ListItemResults, request, lambda page: page.results, limit=limit)

    @many
    @staticmethod
    def watch(id: str) -> Follow[pb.Evaluation]:
        """The evaluation now and after every change until it has ended."""
        return _followed(id)

    @one
    @staticmethod
    def wait(
        id: str, *, on_change: Callable[[pb.Evaluation], object] | None = None, timeout_seconds: float | None = None
    ) -> Last[pb.Evaluation]:
        """The evaluation when it has ended; raises `Transient` after the time."""
        return Last(_followed(id), on_change, timeout_seconds)


class Scores(Group[Mode]):
    """What the client itself offers over scores."""

    @one
    @staticmethod
    def leaderboard(
        evalset: str,
        *,
        generation_digest: str = "",
        scorer_version: str = "",
        filter: str = "",
        order_by: str = "",
        page_size: int = 0,
        limit: int | None = None,
    ) -> Flow[pb.Leaderboard]:
        """Everything ranked on an evalset (id or key) under one score identity, all pages in one answer.

        ``order_by``: "primary_score" (default), "metrics.NAME", "sections.NAME", "categories.NAME",
        "difficulties.NAME", "pass@K" or "maj@K", then " desc" (default) or " asc".
        """
        request = pb.GetLeaderboardRequest(
            evalset=evalset,
            generation_digest=generation_digest,
            scorer_version=scorer_version,
            page_size=page_size,
            filter=filter,
            order_by=order_by,
        )

        def steps() -> Steps[pb.Leaderboard]:
            board: pb.Leaderboard = yield unary(Stub, lambda stub: stub.GetLeaderboard, request)
            while board.next_page_token and (limit is None or len(board.entries) < limit):
                request.page_token = board.next_page_token
                more: pb.Leaderboard = yield unary(Stub, lambda stub: stub.GetLeaderboard, request)
                board.entries.extend(more.entries)
                board.next_page_token = more.next_page_token
            if limit is not None:
                del board.entries[limit:]
            return board

        return Flow(steps)

    @one
    @staticmethod
    def compare(
        baseline_evaluation_id: str,
        *candidate_evaluation_ids: str,
        only_changed: bool = False,
        order_by: str = "",
        include_curves: bool = False,
        page_size: int = 0,
    ) -> Flow[pb.Comparison]:
        """Up to 31 candidates against one baseline on the same items, with every item, all pages in one answer.

        p-values are also given after Holm's correction over the candidates. ``order_by``: "difference" (default:
        largest in any candidate first) or "index". ``include_curves``: with the training losses of the runs that made
        the models. Raises `FailedPrecondition` when the scores' identities differ.
        """
        request = pb.CompareEvaluationsRequest(
            baseline_evaluation_id=baseline_evaluation_id,
            candidate_evaluation_ids=candidate_evaluation_ids,
            only_changed=only_changed,
            order_by=order_by,
            include_curves=include_curves,
            page_size=page_size,
        )

        def steps() -> Steps[pb.Comparison]:
            comparison: pb.Comparison = yield unary(Stub, lambda stub: stub.CompareEvaluations, request)
            request.include_curves = False
            while comparison.next_page_token:
                request.page_token = comparison.next_page_token
                more: pb.Comparison = yield unary(Stub, lambda stub: stub.CompareEvaluations, request)
                comparison.items.extend(more.items)
                comparison.next_page_token = more.next_page_token
            return comparison

        return Flow(steps)
