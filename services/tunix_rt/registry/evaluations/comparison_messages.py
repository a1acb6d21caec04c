"""Leaderboards and comparisons as protobuf messages."""

from __future__ import annotations

from tunix_rt.quality.compare import ItemChange, PairedComparison, SliceComparison
from tunix_rt.registry.evaluations.comparison import ComparedItem, Comparison
from tunix_rt.registry.evaluations.leaderboard import Board, Entry
from tunix_rt.registry.evaluations.messages import VERDICTS, scorecard_message
from tunix_rt.registry.evaluations.scorecards import statistics_document
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel.messages import timestamp
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


def comparison_message(compared: Comparison) -> pb.Comparison:
    """One page of a comparison, with every candidate's statistics over all of it."""
    return pb.Comparison(
        baseline_evaluation_id=compared.baseline.id,
        baseline_scorecard=scorecard_message(compared.baseline.scorecard or {}),
        candidates=[_candidate_message(row, found) for row, found in compared.candidates],
        items=map(_item_message, compared.items),
        next_page_token=compared.next_page_token,
        curves=map(_curve_message, compared.curves),
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


def _curve_message(curve: Curve) -> pb.Curve:
    return pb.Curve(run_id=curve.run_id, metric=curve.metric, steps=curve.steps, values=curve.values)


def _candidate_message(row: EvaluationRow, found: PairedComparison) -> pb.CandidateComparison:
    return pb.CandidateComparison(
        evaluation_id=row.id,
        statistics=statistics_message(statistics_document(found)),
        p_adjusted=found.p_adjusted,
        scorecard=scorecard_message(row.scorecard or {}),
        slices=map(_slice_message, found.slices),
    )


def _item_message(compared: ComparedItem) -> pb.ItemComparison:
    return pb.ItemComparison(
        item_id=compared.item.item_id,
        section=compared.item.section,
        category=compared.item.category,
        expected_answer=compared.item.document["expected_answer"],
        baseline_score=compared.scores[0].baseline_score,
        baseline_prediction=compared.baseline_prediction,
        candidates=[
            pb.CandidateItem(score=scores.candidate_score, change=CHANGES[scores.change], prediction=prediction)
            for scores, prediction in zip(compared.scores, compared.predictions, strict=True)
        ],
    )
