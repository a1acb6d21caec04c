"""Scorecards and leaderboards in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunix_rt.cli import formats, output
from tunix_rt.cli.views.comparisons import score_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.client.resources.evaluations import ItemResult
    from tunix_rt.client.resources.scores import Leaderboard, LeaderboardEntry, Scorecard, SliceScore
    from tunix_rt.contract.enums import Verdict


def verdict(value: Verdict) -> str:
    return formats.styled(value) if value else ""


def card_bar(card: Scorecard | SliceScore) -> str:
    if card.primary_score is None or card.ci_low is None or card.ci_high is None:
        return ""
    return formats.interval_bar(card.primary_score, card.ci_low, card.ci_high)


def scorecard(card: Scorecard | None) -> list[RenderableType]:
    """The whole card: score, coverage, metrics, slices; nothing where there is none."""
    if card is None:
        return []
    means = ", ".join(f"{formats.escaped(k)} {formats.number(v)}" for k, v in sorted(card.metric_means.items()))
    coverage = f"{card.coverage:.1%}  ({card.n_scored} scored, {card.n_skipped} skipped, {card.n_errored} errored)"
    rows: list[tuple[str, object]] = [
        ("primary score", f"[bold]{score_of(card)}[/bold]  {card_bar(card)}"),
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
                [(s.dimension, formats.escaped(s.value), s.n_items, score_of(s), card_bar(s)) for s in card.slices],
                numbers=["items"],
            )
        )
    return parts


def leaderboard(board: Leaderboard) -> list[RenderableType]:
    """Ranks with intervals; entries that cannot be told apart from the first say so."""
    by, _, direction = board.order_by.rpartition(" ")
    by = by or "primary_score"
    rows = [
        (
            entry.rank,
            formats.escaped(entry.run_display_name or entry.run_id or entry.model_id),
            _ranked_value(entry),
            *([formats.score(entry.primary_score, entry.ci_low, entry.ci_high)] if by != "primary_score" else []),
            formats.interval_bar(entry.primary_score, entry.ci_low, entry.ci_high),
            "ties with first" if entry.tied_with_first and index else "",
            verdict(entry.verdict),
            f"{entry.coverage:.0%}",
            formats.local_time(entry.end_time),
            entry.evaluation_id,
        )
        for index, entry in enumerate(board.entries)
    ]
    ordered = ["score [95 %]"] if by == "primary_score" else [f"{by} [95 %]", "score [95 %]"]
    scale = "0" + " " * 30 + "1"
    columns = ["#", "run", *ordered, scale, "", "verdict", "coverage", "ended", "evaluation id"]
    parts: list[RenderableType] = [output.table(columns, rows, numbers=["#", "coverage"])]
    if direction == "asc":
        parts.append(f"[dim]smallest {formats.escaped(by)} first[/dim]")
    if board.n_invalid:
        parts.append(f"[dim]{board.n_invalid} evaluation(s) left out: coverage under 98 %[/dim]")
    identity = board.identity
    parts.append(
        f"[dim]evalset {identity.evalset_digest[:19]}…  scorer {identity.scorer_version}  "
        f"generation {identity.generation_digest[:19]}…[/dim]"
    )
    return parts


def _ranked_value(entry: LeaderboardEntry) -> str:
    """What the board is ordered by, with its interval."""
    return formats.score(entry.value, entry.value_ci_low, entry.value_ci_high)


def item_results(results: Iterable[ItemResult]) -> RenderableType:
    """What the model answered, one line per item."""
    rows = [
        (
            formats.escaped(result.item_id),
            result.outcome,
            formats.number(result.metrics["answer_correctness"]) if "answer_correctness" in result.metrics else "–",
            formats.escaped(result.extracted_answer, 40),
            result.finish_reason or "",
            result.completion_tokens,
            formats.escaped(result.message or result.prediction, 60),
        )
        for result in results
    ]
    columns = ["item", "outcome", "correct", "answer", "ended by", "tokens", "prediction"]
    return output.table(columns, rows, numbers=["correct", "tokens"])
