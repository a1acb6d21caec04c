"""What people see of leaderboards, comparisons and gates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import typer
from rich.console import Console

from tunix_rt.cli.commands.gate import slice_rule
from tunix_rt.cli.views import comparisons, gates, scores
from tunix_rt.client.resources import scores as scores_of
from tunix_rt.client.resources.gates import GateDecision, GatePolicy
from tunix_rt.v1 import evaluations_pb2 as pb
from tunix_rt.v1 import models_pb2


def text_of(parts: Iterable[Any]) -> str:
    console = Console(width=240)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get()


def row(text: str, word: str) -> list[str]:
    """The cells of the one line that holds ``word``."""
    (line,) = [line for line in text.splitlines() if word in line]
    return line.split()


def compared(item_id: str, baseline: float | None, candidate: pb.CandidateItem) -> pb.ItemComparison:
    return pb.ItemComparison(item_id=item_id, baseline_score=baseline, candidates=[candidate])


def test_a_comparison_draws_the_loss_curves_and_both_scores_of_every_changed_item() -> None:
    items = [
        compared("q1", 1.0, pb.CandidateItem(change=pb.ITEM_CHANGE_REGRESSION, score=0.25)),
        compared("q2", None, pb.CandidateItem(change=pb.ITEM_CHANGE_UNPAIRED, score=1.0)),
        compared("q3", 1.0, pb.CandidateItem(change=pb.ITEM_CHANGE_SAME, score=1.0)),
    ]
    one = pb.CandidateComparison(evaluation_id="eval-b")
    curve = pb.Curve(run_id="run-a", metric="loss", steps=[1, 2, 9], values=[8.0, 4.0, 1.0])
    found = scores_of.Comparison(pb.Comparison(candidates=[one], items=items, curves=[curve]))
    text = text_of(comparisons.comparison(found, 20))
    # 4 is 3/7 of the way up from 1 to 8: the fourth of eight blocks.
    assert "loss of run-a" in text
    assert "█▄▁  8 → 1  steps 1 to 9" in text
    assert row(text, "q1")[:4] == ["q1", "REGRESSION", "1", "0.25"]
    assert row(text, "q2")[:4] == ["q2", "UNPAIRED", "–", "1"]
    assert "q3" not in text
    assert "… and 1 more" in text_of(comparisons.comparison(found, 1))


def test_many_candidates_stand_side_by_side() -> None:
    found = pb.Comparison(
        baseline_evaluation_id="eval-a",
        candidates=[
            pb.CandidateComparison(evaluation_id="eval-b", p_adjusted=0.5),
            pb.CandidateComparison(evaluation_id="eval-c", p_adjusted=0.002),
        ],
        items=[
            pb.ItemComparison(
                item_id="q1",
                baseline_score=0.5,
                candidates=[
                    pb.CandidateItem(score=0.5, change=pb.ITEM_CHANGE_SAME),
                    pb.CandidateItem(score=1.0, change=pb.ITEM_CHANGE_FIX),
                ],
            )
        ],
    )
    text = text_of(comparisons.comparison(scores_of.Comparison(found), 20))
    assert row(text, "eval-b")[0] == "B"
    assert row(text, "eval-c")[-2:] == ["0.002", "eval-c"]
    assert row(text, "q1") == ["q1", "0.5", "0.5", "1", "FIX"]


def test_a_board_in_another_order_shows_the_value_and_the_score() -> None:
    entry = pb.LeaderboardEntry(
        rank=1, model_id="model-1", value=41.5, value_ci_low=40, value_ci_high=43, primary_score=0.5, ci_high=1.0
    )
    board = pb.Leaderboard(entries=[entry], order_by="metrics.trace_tokens asc")
    text = text_of(scores.leaderboard(scores_of.Leaderboard(board)))
    assert "metrics.trace_tokens [95 %]" in text
    assert "41.500 [40.000, 43.000]" in text
    assert "0.500 [0.000, 1.000]" in text
    assert "smallest metrics.trace_tokens first" in text


def test_a_board_shows_paired_differences_to_the_first() -> None:
    found = pb.PairedDifference(n_paired=100, delta=-0.05, ci_low=-0.09, ci_high=-0.01, p_value=0.031)
    entries = [
        pb.LeaderboardEntry(rank=1, model_id="model-1", value=0.8, primary_score=0.8),
        pb.LeaderboardEntry(rank=1, model_id="model-2", value=0.75, primary_score=0.75, difference_to_first=found),
    ]
    text = text_of(scores.leaderboard(scores_of.Leaderboard(pb.Leaderboard(entries=entries))))
    assert "Δ to first [95 %]" in text
    assert "-0.050 [-0.090, -0.010]  p 0.031" in text
    without = text_of(scores.leaderboard(scores_of.Leaderboard(pb.Leaderboard(entries=entries[:1]))))
    assert "Δ to first" not in without


def test_a_decision_shows_its_slices() -> None:
    decided = models_pb2.GateDecision(
        verdict=models_pb2.GATE_VERDICT_FAIL,
        metric="answer_correctness",
        slices=[
            models_pb2.SliceDecision(
                dimension="section",
                value="core",
                tier=models_pb2.SLICE_TIER_CRITICAL,
                verdict=models_pb2.GATE_VERDICT_FAIL,
                n_paired=40,
                n_regressions=9,
                n_fixes=1,
                delta=-0.2,
                p_worse=0.006,
                p_adjusted=0.012,
            )
        ],
    )
    assert row(text_of(gates.decision(GateDecision(decided))), "section core")[2:] == [
        "critical", "FAIL", "40", "9", "1", "-0.200", "0.006", "0.012",
    ]  # fmt: skip


def test_policies_show_metric_direction_and_slices() -> None:
    policy = models_pb2.GatePolicy(
        name="strict",
        metric="trace_tokens",
        direction=models_pb2.METRIC_DIRECTION_LOWER_IS_BETTER,
        slices=[
            models_pb2.SliceRule(dimension="section", value="core", tier=models_pb2.SLICE_TIER_CRITICAL, min_effect=5),
            models_pb2.SliceRule(dimension="category", tier=models_pb2.SLICE_TIER_ADVISORY),
        ],
    )
    text = text_of([gates.policies([GatePolicy(policy)])])
    assert "trace_tokens ↓" in text
    assert "critical section=core by 5, advisory every category" in " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("category", {"dimension": "category", "value": ""}),
        ("section=core", {"dimension": "section", "value": "core"}),
        ("category=a = b@0.05", {"dimension": "category", "value": "a = b", "min_effect": 0.05}),
    ],
)
def test_a_slice_is_written_as_dimension_value_and_smallest_effect(text: str, rule: dict[str, Any]) -> None:
    assert slice_rule(text, "critical") == rule | {"tier": "critical"}


def test_a_smallest_effect_that_is_no_number_is_a_usage_error() -> None:
    with pytest.raises(typer.BadParameter, match="'much' is not a number"):
        slice_rule("section=core@much", "critical")
