"""Scorecards, leaderboards, comparisons and gate decisions in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunix_rt.cli import formats, output
from tunix_rt.client.arguments import enum_name
from tunix_rt.v1 import evaluations_pb2 as pb
from tunix_rt.v1 import models_pb2

if TYPE_CHECKING:
    from rich.console import RenderableType


def verdict(value: pb.Verdict.ValueType) -> str:
    return formats.styled(enum_name(pb.Verdict.DESCRIPTOR, value)) if value else ""


def card_score(card: pb.Scorecard | pb.SliceScore) -> str:
    """The primary score with its interval; "–" when nothing was scored."""
    low = card.ci_low if card.HasField("ci_low") else None
    high = card.ci_high if card.HasField("ci_high") else None
    return formats.score(card.primary_score if card.HasField("primary_score") else None, low, high)


def card_bar(card: pb.Scorecard | pb.SliceScore) -> str:
    if not (card.HasField("primary_score") and card.HasField("ci_low") and card.HasField("ci_high")):
        return ""
    return formats.interval_bar(card.primary_score, card.ci_low, card.ci_high)


def scorecard(card: pb.Scorecard) -> list[RenderableType]:
    """The whole card: score, coverage, metrics, slices."""
    means = ", ".join(f"{formats.escaped(k)} {formats.number(v)}" for k, v in sorted(card.metric_means.items()))
    coverage = f"{card.coverage:.1%}  ({card.n_scored} scored, {card.n_skipped} skipped, {card.n_errored} errored)"
    rows: list[tuple[str, object]] = [
        ("primary score", f"[bold]{card_score(card)}[/bold]  {card_bar(card)}"),
        ("verdict", f"{verdict(card.verdict)} [dim]at threshold {card.threshold:g}[/dim]"),
        ("coverage", coverage),
        ("interval", card.ci_method),
        ("metrics", means),
    ]
    parts = [output.fields(rows)]
    if card.slices:
        parts.append(
            output.table(
                ["dimension", "value", "items", "score [95 %]", ""],
                [(s.dimension, formats.escaped(s.value), s.n_items, card_score(s), card_bar(s)) for s in card.slices],
                numbers=["items"],
            )
        )
    return parts


def leaderboard(board: pb.Leaderboard) -> list[RenderableType]:
    """Ranks with intervals; entries that cannot be told apart from the first say so."""
    rows = [
        (
            entry.rank,
            formats.escaped(entry.run_display_name or entry.run_id or entry.model_id),
            formats.score(entry.primary_score, entry.ci_low, entry.ci_high),
            formats.interval_bar(entry.primary_score, entry.ci_low, entry.ci_high),
            "ties with first" if entry.tied_with_first and index else "",
            verdict(entry.verdict),
            f"{entry.coverage:.0%}",
            formats.local_time(entry.end_time),
            entry.evaluation_id,
        )
        for index, entry in enumerate(board.entries)
    ]
    columns = ["#", "run", "score [95 %]", "0" + " " * 30 + "1", "", "verdict", "coverage", "ended", "evaluation id"]
    parts: list[RenderableType] = [output.table(columns, rows, numbers=["#", "coverage"])]
    if board.n_invalid:
        parts.append(f"[dim]{board.n_invalid} evaluation(s) left out: coverage under 98 %[/dim]")
    identity = board.identity
    parts.append(
        f"[dim]evalset {identity.evalset_digest[:19]}…  scorer {identity.scorer_version}  "
        f"generation {identity.generation_digest[:19]}…[/dim]"
    )
    return parts


def statistics(stats: pb.PairedStatistics) -> RenderableType:
    """The paired figures of B minus A."""
    needed = f"{stats.n_needed} items would show it with 80 % power" if stats.n_needed else ""
    changes = f"[green]{stats.n_fixes} fixed[/green], [red]{stats.n_regressions} regressed[/red], {stats.n_same} same"
    rows: list[tuple[str, object]] = [
        ("Δ (B - A)", f"[bold]{formats.signed(stats.delta, stats.ci_low, stats.ci_high)}[/bold]  {stats.ci_method}"),
        ("items", f"{stats.n_paired} paired, {stats.n_unpaired} not: {changes}"),
        ("p two-sided", f"{formats.number(stats.p_value)}  [dim]{stats.p_method}[/dim]"),
        ("p that B is worse", formats.number(stats.p_worse)),
        ("power", needed),
    ]
    return output.fields(rows)


def comparison(result: pb.Comparison, shown: int) -> list[RenderableType]:
    """Both scores, the difference, slices, and up to ``shown`` items that changed."""
    parts: list[RenderableType] = [
        output.fields(
            [
                ("A", f"{result.baseline_evaluation_id}  {card_score(result.baseline_scorecard)}"),
                ("B", f"{result.candidate_evaluation_id}  {card_score(result.candidate_scorecard)}"),
            ]
        ),
        statistics(result.statistics),
    ]
    if result.slices:
        rows = [
            (s.dimension, formats.escaped(s.value), s.n_paired, formats.signed(s.delta), formats.number(s.p_adjusted))
            for s in result.slices
        ]
        parts.append(output.table(["dimension", "value", "items", "Δ", "p (Holm)"], rows, numbers=["items"]))
    changed = [item for item in result.items if item.change != pb.ITEM_CHANGE_SAME]
    if changed:
        parts.append(_item_table(changed[:shown]))
    if len(changed) > shown:
        parts.append(f"[dim]… and {len(changed) - shown} more; --items shows more, --json all[/dim]")
    return parts


def _item_table(items: Iterable[pb.ItemDiff]) -> RenderableType:
    rows = [
        (
            formats.escaped(item.item_id),
            formats.styled(enum_name(pb.ItemChange.DESCRIPTOR, item.change)),
            formats.escaped(item.expected_answer, 30),
            formats.escaped(item.baseline_prediction[-60:], 60),
            formats.escaped(item.candidate_prediction[-60:], 60),
        )
        for item in items
    ]
    return output.table(["item", "change", "expected", "A answered (end)", "B answered (end)"], rows)


def item_results(results: Iterable[pb.ItemResult]) -> RenderableType:
    """What the model answered, one line per item."""
    rows = [
        (
            formats.escaped(result.item_id),
            enum_name(pb.ItemOutcome.DESCRIPTOR, result.outcome),
            formats.number(result.metrics["answer_correctness"]) if "answer_correctness" in result.metrics else "–",
            formats.escaped(result.extracted_answer, 40),
            result.finish_reason,
            result.completion_tokens,
            formats.escaped(result.message or result.prediction, 60),
        )
        for result in results
    ]
    columns = ["item", "outcome", "correct", "answer", "ended by", "tokens", "prediction"]
    return output.table(columns, rows, numbers=["correct", "tokens"])


def gate_decision(decision: models_pb2.GateDecision) -> list[RenderableType]:
    """The verdict and the rule that decided."""
    word = enum_name(models_pb2.GateVerdict.DESCRIPTOR, decision.verdict)
    bound = f"{decision.lower_bound:+.3f}" if decision.HasField("lower_bound") else ""
    rows: list[tuple[str, object]] = [
        ("gate", formats.styled(word)),
        ("why", formats.escaped(decision.explanation)),
        ("Δ at least", bound),
        ("items needed", decision.items_needed or ""),
        ("candidate", decision.candidate_evaluation_id),
        ("baseline", decision.baseline_evaluation_id),
        ("policy", decision.policy_id),
        ("decision", f"{decision.id}  [dim]{decision.digest[:19]}…[/dim]"),
    ]
    parts = [output.fields(rows)]
    if decision.statistics.n_paired:
        parts.append(statistics(decision.statistics))
    return parts
