"""Leaderboards and comparisons as protobuf messages."""

from __future__ import annotations

from tunix_rt.quality.compare import ItemChange, SliceComparison
from tunix_rt.registry.evaluations.comparison import Compared, Diff
from tunix_rt.registry.evaluations.leaderboard import Board, Entry
from tunix_rt.registry.evaluations.many_comparisons import Candidate, ManyCompared, ManyDiff
from tunix_rt.registry.evaluations.messages import VERDICTS, scorecard_message
from tunix_rt.registry.evaluations.scorecards import statistics_document
from tunix_rt.registry.kernel.artifact_messages import timestamp
from tunix_rt.registry.models.messages import statistics_message
from tunix_rt.registry.runs.curves import Curve
from tunix_rt.v1 import evaluations_pb2 as pb

CHANGES = {
    ItemChange.REGRESSION: pb.ITEM_CHANGE_REGRESSION,
    ItemChange.FIX: pb.ITEM_CHANGE_FIX,
    ItemChange.SAME: pb.ITEM_CHANGE_SAME,
    ItemChange.UNPAIRED: pb.ITEM_CHANGE_UNPAIRED,
}


def leaderboard_message(board: Board) -> pb.Leaderboard:
    """One page of a leaderboard."""
    return pb.Leaderboard(
        evalset_id=board.evalset.id,
        identity=pb.ScoreIdentity(
            evalset_digest=board.evalset.digest,
            scorer_version=board.scorer_version,
            generation_digest=board.generation_digest,
        ),
        entries=map(_entry_message, board.entries),
        next_page_token=board.next_page_token,
        n_invalid=board.n_invalid,
        order_by=str(board.order),
    )


def comparison_message(compared: Compared) -> pb.Comparison:
    """One page of a comparison, with the statistics of all of it."""
    return pb.Comparison(
        baseline_evaluation_id=compared.baseline.id,
        candidate_evaluation_id=compared.candidate.id,
        statistics=statistics_message(statistics_document(compared.statistics)),
        slices=map(_slice_message, compared.statistics.slices),
        items=map(_diff_message, compared.diffs),
        next_page_token=compared.next_page_token,
        baseline_scorecard=scorecard_message(compared.baseline.scorecard or {}),
        candidate_scorecard=scorecard_message(compared.candidate.scorecard or {}),
        curves=map(_curve_message, compared.curves),
    )


def many_comparison_message(compared: ManyCompared) -> pb.ManyComparison:
    """One page of a comparison of many, with every candidate's statistics."""
    return pb.ManyComparison(
        baseline_evaluation_id=compared.baseline.id,
        baseline_scorecard=scorecard_message(compared.baseline.scorecard or {}),
        candidates=map(_candidate_message, compared.candidates),
        items=map(_many_diff_message, compared.diffs),
        next_page_token=compared.next_page_token,
    )


def _entry_message(entry: Entry) -> pb.LeaderboardEntry:
    row = entry.shown
    return pb.LeaderboardEntry(
        rank=entry.rank,
        evaluation_id=row.id,
        run_id=row.run_id or "",
        run_display_name=row.run_display_name,
        model_id=row.model_id,
        primary_score=row.primary_score,
        ci_low=0.0 if row.ci_low is None else row.ci_low,
        ci_high=1.0 if row.ci_high is None else row.ci_high,
        coverage=row.coverage,
        n_scored=row.n_scored,
        end_time=timestamp(row.end_time),
        verdict=VERDICTS[row.verdict],
        tied_with_first=entry.tied_with_first,
        metric_means=row.metric_means,
        value=row.value,
        value_ci_low=row.value_ci_low,
        value_ci_high=row.value_ci_high,
        dataset_id=row.dataset_id,
        tags=row.tags,
    )


def _slice_message(found: SliceComparison) -> pb.SliceComparison:
    return pb.SliceComparison(
        dimension=found.dimension,
        value=found.value,
        n_paired=found.n_paired,
        delta=found.delta,
        p_value=found.p_value,
        p_adjusted=found.p_adjusted,
    )


def _diff_message(diff: Diff) -> pb.ItemDiff:
    return pb.ItemDiff(
        item_id=diff.item.item_id,
        change=CHANGES[diff.scores.change],
        baseline_score=diff.scores.baseline_score,
        candidate_score=diff.scores.candidate_score,
        baseline_prediction=diff.baseline_prediction,
        candidate_prediction=diff.candidate_prediction,
        section=diff.item.section,
        category=diff.item.category,
        expected_answer=diff.item.document["expected_answer"],
    )


def _curve_message(curve: Curve) -> pb.Curve:
    return pb.Curve(run_id=curve.run_id, metric=curve.metric, steps=curve.steps, values=curve.values)


def _candidate_message(candidate: Candidate) -> pb.CandidateComparison:
    return pb.CandidateComparison(
        evaluation_id=candidate.evaluation.id,
        statistics=statistics_message(statistics_document(candidate.statistics)),
        p_adjusted=candidate.statistics.p_adjusted,
        scorecard=scorecard_message(candidate.evaluation.scorecard or {}),
    )


def _many_diff_message(diff: ManyDiff) -> pb.ManyItemDiff:
    return pb.ManyItemDiff(
        item_id=diff.item.item_id,
        section=diff.item.section,
        category=diff.item.category,
        expected_answer=diff.item.document["expected_answer"],
        baseline_score=diff.scores[0].baseline_score,
        baseline_prediction=diff.baseline_prediction,
        candidates=[
            pb.CandidateItem(score=scores.candidate_score, change=CHANGES[scores.change], prediction=prediction)
            for scores, prediction in zip(diff.scores, diff.predictions, strict=True)
        ],
    )
