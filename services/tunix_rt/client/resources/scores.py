"""Scorecards, leaderboards and paired comparisons."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from tunix_rt.client.binding import Group, Mode, one
from tunix_rt.client.operations import Flow, Steps, as_message, unary
from tunix_rt.client.records import Record
from tunix_rt.contract.enums import ItemChange, Verdict
from tunix_rt.v1 import evaluations_pb2 as pb
from tunix_rt.v1.evaluations_pb2_grpc import EvaluationServiceStub as Stub

R = TypeVar("R", bound=Record)


class ScoreIdentity(Record, of=pb.ScoreIdentity):
    """Only scores that agree in evalset, scorer and generation are comparable."""

    evalset_digest: str
    scorer_version: str
    generation_digest: str
    model_digest: str


class SliceScore(Record, of=pb.SliceScore):
    """The score of the items with one label."""

    dimension: str
    value: str
    n_items: int
    n_scored: int
    primary_score: float | None
    ci_low: float | None
    ci_high: float | None


class MetricEstimate(Record, of=pb.MetricEstimate):
    """Mean of one metric over the scored items, with its 95 % interval."""

    metric: str
    n: int
    mean: float
    stddev: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str


class RepeatEstimate(Record, of=pb.RepeatEstimate):
    """pass@k or maj@k over the items with k scored samples."""

    statistic: str
    k: int
    n_items: int
    value: float
    ci_low: float | None
    ci_high: float | None
    ci_method: str


class Scorecard(Record, of=pb.Scorecard):
    """An evaluation's score with its 95 % interval, coverage, slices and metrics."""

    _shown = ("primary_score", "ci_low", "ci_high", "n_scored", "n_items", "verdict")

    n_items: int
    n_scored: int
    n_skipped: int
    n_errored: int
    coverage: float
    primary_score: float | None
    stddev: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str
    worst_case: float | None
    best_case: float | None
    slices: tuple[SliceScore, ...]
    metric_means: dict[str, float]
    verdict: Verdict
    threshold: float
    metric_estimates: tuple[MetricEstimate, ...]
    repeats: tuple[RepeatEstimate, ...]
    statistics_version: int | None


class PairedDifference(Record, of=pb.PairedDifference):
    """B minus A of the value that a board is ordered by, on the items of both, with its 95 % interval."""

    n_paired: int
    delta: float
    ci_low: float
    ci_high: float
    p_value: float


class LeaderboardEntry(Record, of=pb.LeaderboardEntry):
    """A ranked evaluation; ``value`` is what the board is ordered by."""

    rank: int
    evaluation_id: str
    run_id: str
    run_display_name: str
    model_id: str
    primary_score: float
    ci_low: float
    ci_high: float
    coverage: float
    n_scored: int
    end_time: datetime | None
    verdict: Verdict
    tied_with_first: bool
    metric_means: dict[str, float]
    value: float
    value_ci_low: float | None
    value_ci_high: float | None
    dataset_id: str
    tags: dict[str, str]
    verified: bool
    difference_to_first: PairedDifference | None


class Leaderboard(Record, of=pb.Leaderboard):
    """Evaluations of one score identity, ranked; ``n_invalid`` were left out for their coverage, ``n_other_scorers``
    because another scorer version has scored them."""

    evalset_id: str
    identity: ScoreIdentity
    entries: tuple[LeaderboardEntry, ...]
    next_page_token: str
    n_invalid: int
    order_by: str
    n_other_scorers: int


class Curve(Record, of=pb.Curve):
    """A metric of a run's newest attempt over its steps, at most 500 points."""

    run_id: str
    metric: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


class PairedStatistics(Record, of=pb.PairedStatistics):
    """B minus A on the items scored in both; intervals are 95 %."""

    n_paired: int
    n_regressions: int
    n_fixes: int
    n_same: int
    n_unpaired: int
    delta: float
    ci_low: float
    ci_high: float
    ci_method: str
    p_value: float
    p_method: str
    p_worse: float
    n_needed: int
    detectable: float
    statistics_version: int | None


class SliceComparison(Record, of=pb.SliceComparison):
    """The difference on the items with one label; ``p_adjusted`` is Holm's over all slices."""

    dimension: str
    value: str
    n_paired: int
    delta: float
    p_value: float
    p_adjusted: float


class CandidateItem(Record, of=pb.CandidateItem):
    """An item in one candidate's evaluation; ``score`` is None where it was not scored."""

    score: float | None
    change: ItemChange
    prediction: str


class ItemComparison(Record, of=pb.ItemComparison):
    """An item in the baseline and in every candidate, in their order."""

    item_id: str
    section: str
    category: str
    expected_answer: str
    baseline_score: float | None
    baseline_prediction: str
    candidates: tuple[CandidateItem, ...]


class CandidateComparison(Record, of=pb.CandidateComparison):
    """One candidate against the baseline; ``p_adjusted`` is Holm's over the candidates."""

    _shown = ("evaluation_id", "statistics")

    evaluation_id: str
    statistics: PairedStatistics
    p_adjusted: float
    scorecard: Scorecard
    slices: tuple[SliceComparison, ...]


class Comparison(Record, of=pb.Comparison):
    """One or several candidates against one baseline on the same items."""

    _shown = ("baseline_evaluation_id", "candidates")

    baseline_evaluation_id: str
    baseline_scorecard: Scorecard
    candidates: tuple[CandidateComparison, ...]
    items: tuple[ItemComparison, ...]
    next_page_token: str
    curves: tuple[Curve, ...]
    scorer_version: str


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
        every_evaluation: bool = False,
        with_differences: bool = False,
        page_size: int = 0,
        limit: int | None = None,
    ) -> Flow[Leaderboard]:
        """Everything ranked on an evalset (id or key) under one score identity, all pages in one answer.

        ``order_by``: "primary_score" (default), "metrics.NAME", "sections.NAME", "categories.NAME",
        "difficulties.NAME", "pass@K" or "maj@K", then " desc" (default) or " asc".
        A run has one line, that of its newest evaluation, unless ``every_evaluation``. ``with_differences``: each
        entry's difference to the first on the same items, of the primary score or a metric.
        """
        request = pb.GetLeaderboardRequest(
            evalset=evalset,
            generation_digest=generation_digest,
            scorer_version=scorer_version,
            page_size=page_size,
            filter=filter,
            order_by=order_by,
            every_evaluation=every_evaluation,
            with_differences=with_differences,
        )
        return Flow(lambda: _whole(lambda stub: stub.GetLeaderboard, request, "entries", Leaderboard, limit))

    @one
    @staticmethod
    def compare(
        baseline_evaluation_id: str,
        *candidate_evaluation_ids: str,
        only_changed: bool = False,
        order_by: str = "",
        include_curves: bool = False,
        page_size: int = 0,
    ) -> Flow[Comparison]:
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
        return Flow(lambda: _whole(lambda stub: stub.CompareEvaluations, request, "items", Comparison))


def _whole(
    select: Callable[[Stub], Any], request: Any, field: str, kind: Callable[[Any], R], limit: int | None = None
) -> Steps[R]:
    """All pages of a response as one, with at most ``limit`` of the repeated ``field`` that is paged."""
    whole: Any = yield unary(Stub, select, request, as_message)
    found = getattr(whole, field)
    if isinstance(request, pb.CompareEvaluationsRequest):
        request.include_curves = False  # they come with the first page
    while whole.next_page_token and (limit is None or len(found) < limit):
        request.page_token = whole.next_page_token
        more: Any = yield unary(Stub, select, request, as_message)
        found.extend(getattr(more, field))
        whole.next_page_token = more.next_page_token
    if limit is not None:
        del found[limit:]
    return kind(whole)
