"""Evaluations of models on evalsets, with every item's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tunix_rt.client.arguments import to_message
from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import (
    Call,
    Flow,
    Follow,
    Last,
    Many,
    One,
    Pages,
    Steps,
    as_message,
    followed,
    new_request_id,
    paged,
    unary,
)
from tunix_rt.client.records import Record
from tunix_rt.client.resources.common import GenerationConfig, Signature
from tunix_rt.client.resources.jobs import Job, Progress
from tunix_rt.client.resources.scores import Scorecard, ScoreIdentity
from tunix_rt.contract.enums import FinishReason, ItemOutcome
from tunix_rt.errors import FailedPrecondition
from tunix_rt.v1 import common_pb2, runs_pb2
from tunix_rt.v1 import evaluations_pb2 as pb
from tunix_rt.v1.evaluations_pb2_grpc import EvaluationServiceStub as Stub
from tunix_rt.v1.runs_pb2_grpc import RunServiceStub


class ItemResult(Record, of=pb.ItemResult):
    """What the model answered to one item, and its metrics. ``message`` says why it was skipped or errored."""

    item_id: str
    sample_index: int
    outcome: ItemOutcome
    prediction: str
    extracted_answer: str
    metrics: dict[str, float]
    message: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


class PastScore(Record, of=pb.PastScore):
    """A score that an evaluation had before its predictions were scored again."""

    _shown = ("identity", "scorecard", "replace_time")

    identity: ScoreIdentity
    scorecard: Scorecard
    verified: bool
    signature: Signature | None
    score_time: datetime
    replace_time: datetime
    replaced_by: str


class Evaluation(Job[Mode], of=pb.Evaluation):
    """An evaluation. ``scorecard`` is None until it has SUCCEEDED; ``score_time`` is when its predictions were scored
    again, None for the score that it ended with."""

    _shown = ("id", "evalset_key", "state", "reason", "message", "scorecard")

    run_id: str
    model_id: str
    evalset_id: str
    evalset_key: str
    generation: GenerationConfig
    progress: Progress
    identity: ScoreIdentity
    scorecard: Scorecard | None
    start_time: datetime | None
    tags: dict[str, str]
    etag: str
    attempts: int
    threshold: float
    samples_per_item: int
    created_by: str
    verified: bool
    signature: Signature | None
    project: str
    queue_deadline_seconds: int
    warning: str
    archive_time: datetime | None
    score_time: datetime | None

    @one
    def refresh(self) -> One[Evaluation[Mode]]:
        """The evaluation as it is now."""
        return Evaluations.get(self.id)

    @one
    def wait(
        self, *, on_change: Callable[[Evaluation[Mode]], object] | None = None, timeout_seconds: float | None = None
    ) -> One[Evaluation[Mode]]:
        """The evaluation when it has ended; see `Evaluations.wait`."""
        return Last(_followed(self.id), on_change, timeout_seconds)

    @many
    def watch(self) -> Many[Evaluation[Mode]]:
        """The evaluation now and after every change until it has ended."""
        return _followed(self.id)

    @one
    def cancel(self, *, message: str = "") -> One[Evaluation[Mode]]:
        """Request cancellation."""
        return Evaluations.cancel(self.id, message=message)

    @one
    def retry(self, *, message: str = "") -> One[Evaluation[Mode]]:
        """Try it again as it was read; see `Evaluations.retry`. Raises `Aborted` when it has changed since."""
        return Evaluations.retry(self.id, etag=self.etag, message=message)

    @one
    def rescore(self, *, on_progress: Callable[[int, int], object] | None = None) -> One[Evaluation[Mode]]:
        """Have its predictions scored again; see `Evaluations.rescore`."""
        return Evaluations.rescore(self.id, on_progress=on_progress)

    @many
    def past_scores(self, *, limit: int | None = None) -> Many[PastScore]:
        """The scores that it had before, the newest first."""
        return Evaluations.past_scores(self.id, limit=limit)

    @many
    def items(self, *, filter: str = "", scorer_version: str = "", limit: int | None = None) -> Many[ItemResult]:
        """What the model answered, item by item; see `Evaluations.items`."""
        return Evaluations.items(self.id, filter=filter, scorer_version=scorer_version, limit=limit)


def _followed(id: str) -> Follow[Evaluation[Any]]:
    return followed(
        Stub,
        lambda stub: stub.WatchEvaluation,
        lambda last: pb.WatchEvaluationRequest(id=id),
        lambda update, runner: Evaluation(update.evaluation, runner),
        lambda evaluation: evaluation.has_ended,
    )


class Evaluations(Group[Mode]):
    """``client.evaluations``"""

    @one
    @staticmethod
    def create(
        model: str,
        evalset: str,
        *,
        generation: GenerationConfig | common_pb2.GenerationConfig | Mapping[str, Any] | None = None,
        threshold: float | None = None,
        samples_per_item: int = 0,
        queue_deadline_seconds: int = 0,
        tags: Mapping[str, str] | None = None,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> Call[Evaluation[Mode]]:
        """Queue an evaluation of a model (version id, or a reference such as pkg://NAME) on an evalset (id or key)."""
        request = pb.CreateEvaluationRequest(
            request_id=new_request_id(request_id),
            model=model,
            evalset=evalset,
            generation=to_message(common_pb2.GenerationConfig, generation, "generation"),
            threshold=threshold,
            samples_per_item=samples_per_item,
            queue_deadline_seconds=queue_deadline_seconds,
            tags=tags,
            validate_only=validate_only,
        )
        return unary(Stub, lambda stub: stub.CreateEvaluation, request, Evaluation)

    @one
    @staticmethod
    def get(id: str) -> Call[Evaluation[Mode]]:
        """One evaluation; its scorecard is set once it has SUCCEEDED."""
        return unary(Stub, lambda stub: stub.GetEvaluation, pb.GetEvaluationRequest(id=id), Evaluation)

    @one
    @staticmethod
    def resolve(name: str, evaluation: str = "") -> Flow[Evaluation[Mode]]:
        """The evaluation ``name``, or the one of the run ``name``.

        ``evaluation`` says which of several: an evaluation's id, or the id or key of its evalset.

        Raises `FailedPrecondition` when the run has none of that kind, or several and ``evaluation`` is empty.
        """
        return Flow(lambda: _resolved(name, evaluation))

    @many
    @staticmethod
    def list(
        *, filter: str = "", order_by: str = "", page_size: int = 0, limit: int | None = None
    ) -> Pages[Evaluation[Mode]]:
        """Evaluations; fields: id, run_id, model_id, model_name, dataset_id, evalset_id, evalset_key, state,
        primary_score, scorer_version, create_time, end_time, tags.NAME, config.NAME (a hyperparameter of the run)."""
        request = pb.ListEvaluationsRequest(page_size=page_size, filter=filter, order_by=order_by)
        return paged(
            Stub,
            lambda stub: stub.ListEvaluations,
            request,
            lambda page, runner: Evaluation.each(page.evaluations, runner),
            limit=limit,
        )

    @one
    @staticmethod
    def cancel(id: str, *, message: str = "", request_id: str | None = None) -> Call[Evaluation[Mode]]:
        """Request cancellation."""
        request = pb.CancelEvaluationRequest(request_id=new_request_id(request_id), id=id, message=message)
        return unary(Stub, lambda stub: stub.CancelEvaluation, request, Evaluation)

    @one
    @staticmethod
    def retry(id: str, *, etag: str = "", message: str = "", request_id: str | None = None) -> Call[Evaluation[Mode]]:
        """Queue an evaluation that has FAILED or was CANCELLED once more; it keeps the items that are recorded.

        Its history stays. Raises `FailedPrecondition` for one in another state, and `Aborted` for a stale ``etag``.
        """
        request = pb.RetryEvaluationRequest(request_id=new_request_id(request_id), id=id, etag=etag, message=message)
        return unary(Stub, lambda stub: stub.RetryEvaluation, request, Evaluation)

    @one
    @staticmethod
    def rescore(
        id: str, *, on_progress: Callable[[int, int], object] | None = None, request_id: str | None = None
    ) -> Flow[Evaluation[Mode]]:
        """Have the stored predictions scored again by the registry's scorers; the former score goes into `past_scores`.

        ``on_progress`` is called with the number of samples that are scored, and of all. An evaluation whose score is
        of the registry's version stays as it is. Raises `FailedPrecondition` for one without a score, by third-party
        scorers, or with an item that cannot be scored.
        """
        request = pb.RescoreEvaluationRequest(request_id=new_request_id(request_id), id=id)
        return Flow(lambda: _rescored(request, on_progress))

    @many
    @staticmethod
    def past_scores(id: str, *, page_size: int = 0, limit: int | None = None) -> Pages[PastScore]:
        """The scores that an evaluation had before it was scored again, the newest first."""
        request = pb.ListPastScoresRequest(evaluation_id=id, page_size=page_size)
        return paged(
            Stub, lambda stub: stub.ListPastScores, request, lambda page, _: PastScore.each(page.scores), limit=limit
        )

    @many
    @staticmethod
    def items(
        id: str, *, filter: str = "", scorer_version: str = "", page_size: int = 0, limit: int | None = None
    ) -> Pages[ItemResult]:
        """What the model answered, item by item, as ``scorer_version`` scored it (default: the present score).

        Fields: item_id, outcome, answer_correctness. Raises `NotFound` for a version that it has no score of.
        """
        request = pb.ListItemResultsRequest(
            evaluation_id=id, page_size=page_size, filter=filter, scorer_version=scorer_version
        )
        return paged(
            Stub, lambda stub: stub.ListItemResults, request, lambda page, _: ItemResult.each(page.results), limit=limit
        )

    @many
    @staticmethod
    def watch(id: str) -> Follow[Evaluation[Mode]]:
        """The evaluation now and after every change until it has ended."""
        return _followed(id)

    @one
    @staticmethod
    def wait(
        id: str, *, on_change: Callable[[Evaluation[Mode]], object] | None = None, timeout_seconds: float | None = None
    ) -> Last[Evaluation[Mode]]:
        """The evaluation when it has ended; raises `Transient` after the time."""
        return Last(_followed(id), on_change, timeout_seconds)


def _rescored(
    request: pb.RescoreEvaluationRequest, on_progress: Callable[[int, int], object] | None
) -> Steps[Evaluation[Any]]:
    stream: Follow[pb.RescoreEvaluationResponse] = followed(
        Stub,
        lambda stub: stub.RescoreEvaluation,
        lambda last: request,
        as_message,
        lambda answer: answer.HasField("evaluation"),
    )
    seen = None if on_progress is None else lambda answer: on_progress(answer.done, answer.total)
    last: pb.RescoreEvaluationResponse = yield Last(stream, seen)
    found: Evaluation[Any] = yield Evaluations.get(last.evaluation.id)
    return found


def _resolved(name: str, evaluation: str) -> Steps[Evaluation[Any]]:
    if not name.startswith("run-") or evaluation.startswith("eval-"):
        found: Evaluation[Any] = yield Evaluations.get(evaluation if evaluation.startswith("eval-") else name)
        if name not in (found.id, found.run_id):
            raise FailedPrecondition(f"{evaluation} is not an evaluation of {name}")
        return found
    run: runs_pb2.Run = yield unary(RunServiceStub, lambda s: s.GetRun, runs_pb2.GetRunRequest(id=name), as_message)
    of_run: list[Evaluation[Any]] = []
    for id in run.evaluation_ids:
        of_run.append((yield Evaluations.get(id)))
    matching = [each for each in of_run if evaluation in ("", each.evalset_key, each.evalset_id)]
    if not matching:
        raise FailedPrecondition(f"{name} has no evaluation{f' on {evaluation}' if evaluation else ''} yet")
    if len(matching) > 1:
        raise FailedPrecondition(f"{name} has several evaluations; name one of {', '.join(e.id for e in matching)}")
    return matching[0]
