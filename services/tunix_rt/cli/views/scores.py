"""Scorecards and leaderboards in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tunix_rt.cli import formats, printing
from tunix_rt.cli.views.comparisons import score_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.client import Leaderboard, Scorecard, Verdict
    from tunix_rt.client.resources.evaluations import Evaluation, ItemResult, PastScore
    from tunix_rt.client.resources.scores import LeaderboardEntry, SliceScore
    from tunix_rt.quality import scorecard as computed
    from tunix_rt.quality.scoring import ItemScore

    # As the platform stores them, or as they were computed here.
    Card = Scorecard | computed.Scorecard
    Slice = SliceScore | computed.SliceScore

_NAMED_MISSING = 20


def verdict(value: Verdict) -> str:
    return formats.styled(value) if value else ""


def card_bar(card: Card | Slice) -> str:
    if card.primary_score is None or card.ci_low is None or card.ci_high is None:
        return ""
    return formats.interval_bar(card.primary_score, card.ci_low, card.ci_high)


def scorecard(card: Card | None, samples_per_item: int = 1) -> list[RenderableType]:
    """The whole card: score, coverage, metrics, slices; nothing where there is none."""
    if card is None:
        return []
    means = ", ".join(f"{formats.escaped(k)} {formats.number(v)}" for k, v in sorted(card.metric_means.items()))
    coverage = f"{card.coverage:.1%}  ({card.n_scored} scored, {card.n_skipped} skipped, {card.n_errored} errored)"
    repeats = (f"{one.statistic.replace('@k', f'@{one.k}')} {formats.number(one.value)}" for one in card.repeats)
    rows: list[tuple[str, object]] = [
        ("primary score", f"[bold]{score_of(card)}[/bold]  {card_bar(card)}"),
        ("verdict", f"{formats.styled(card.verdict)} [dim]at threshold {card.threshold:g}[/dim]"),
        ("coverage", coverage),
        ("samples", f"{samples_per_item} per item" if samples_per_item > 1 else ""),
        ("repeats", ", ".join(repeats)),
        ("interval", card.ci_method),
        ("metrics", means),
    ]
    parts = [printing.fields(rows)]
    if card.slices:
        slices = [(s.dimension, formats.escaped(s.value), s.n_items, score_of(s), card_bar(s)) for s in card.slices]
        parts.append(printing.table(["dimension", "value", "items", "score [95 %]", ""], slices, numbers=["items"]))
    return parts


def missing(pairs: Sequence[tuple[str, int]]) -> list[RenderableType]:
    """Which items have no prediction; nothing when all have."""
    if not pairs:
        return []
    named = ", ".join(formats.escaped(f"{item}#{index}" if index else item) for item, index in pairs[:_NAMED_MISSING])
    more = f" and {len(pairs) - _NAMED_MISSING} more" if len(pairs) > _NAMED_MISSING else ""
    return [f"[yellow]no prediction for {len(pairs)}:[/yellow] {named}{more}"]


def items(results: Sequence[tuple[str, int, ItemScore]], *, several: bool = False) -> RenderableType:
    """One line per item, or per sample of it."""
    rows = [
        (
            formats.escaped(f"{item_id}#{index}" if several else item_id),
            score.outcome,
            formats.number(score.metrics["answer_correctness"]) if "answer_correctness" in score.metrics else "–",
            formats.escaped(score.extracted_answer or "", 50),
            formats.escaped(score.message, 60),
        )
        for item_id, index, score in results
    ]
    return printing.table(["item", "outcome", "correct", "answer", "message"], rows, numbers=["correct"])


def leaderboard(board: Leaderboard) -> list[RenderableType]:
    """Ranks with intervals; entries that cannot be told apart from the first say so."""
    by, _, direction = board.order_by.rpartition(" ")
    by = by or "primary_score"
    compared = any(entry.difference_to_first for entry in board.entries)
    rows = [
        (
            entry.rank,
            formats.escaped(entry.run_display_name or entry.run_id or entry.model_id),
            _ranked_value(entry),
            *([formats.score(entry.primary_score, entry.ci_low, entry.ci_high)] if by != "primary_score" else []),
            formats.interval_bar(entry.primary_score, entry.ci_low, entry.ci_high),
            *([_difference(entry)] if compared else []),
            _remarks(entry, index),
            verdict(entry.verdict),
            f"{entry.coverage:.0%}",
            formats.local_time(entry.end_time),
            entry.evaluation_id,
        )
        for index, entry in enumerate(board.entries)
    ]
    ordered = ["score [95 %]"] if by == "primary_score" else [f"{by} [95 %]", "score [95 %]"]
    scale = "0" + " " * 30 + "1"
    compared_with = ["Δ to first [95 %]"] if compared else []
    columns = ["#", "run", *ordered, scale, *compared_with, "", "verdict", "coverage", "ended", "evaluation id"]
    parts: list[RenderableType] = [printing.table(columns, rows, numbers=["#", "coverage"])]
    if direction == "asc":
        parts.append(f"[dim]smallest {formats.escaped(by)} first[/dim]")
    if board.n_invalid:
        parts.append(f"[dim]{board.n_invalid} evaluation(s) left out: coverage under 98 %[/dim]")
    identity = board.identity
    if board.n_other_scorers:
        parts.append(
            f"[dim]{board.n_other_scorers} evaluation(s) left out: scored by another scorer version; "
            f"tunix-rt evaluations rescore --evalset {board.evalset_id} --all scores them again[/dim]"
        )
    parts.append(
        f"[dim]evalset {identity.evalset_digest[:19]}…  scorer {identity.scorer_version}  "
        f"generation {identity.generation_digest[:19]}…[/dim]"
    )
    return parts


def _difference(entry: LeaderboardEntry) -> str:
    found = entry.difference_to_first
    if found is None:
        return ""
    return f"{formats.signed(found.delta, found.ci_low, found.ci_high)}  p {formats.number(found.p_value)}"


def _remarks(entry: LeaderboardEntry, index: int) -> str:
    found = ["ties with first"] if entry.tied_with_first and index else []
    return ", ".join(found if entry.verified else [*found, "[yellow]not verified[/yellow]"])


def _ranked_value(entry: LeaderboardEntry) -> str:
    """What the board is ordered by, with its interval."""
    return formats.score(entry.value, entry.value_ci_low, entry.value_ci_high)


def rescored(found: Iterable[tuple[Evaluation, Evaluation]]) -> RenderableType:
    """Evaluations before and after their predictions were scored again."""
    rows = [
        (
            after.id,
            formats.escaped(after.evalset_key),
            f"{formats.escaped(before.identity.scorer_version)} → {formats.escaped(after.identity.scorer_version)}",
            f"{_primary(before)} → {_primary(after)}",
            "" if after.verified else "[yellow]not verified[/yellow]",
        )
        for before, after in found
    ]
    return printing.table(["evaluation id", "evalset", "scorer", "score", ""], rows)


def past_scores(found: Iterable[PastScore]) -> RenderableType:
    """The scores that an evaluation had before, one a line."""
    rows = [
        (
            formats.escaped(each.identity.scorer_version),
            formats.score(each.scorecard.primary_score, each.scorecard.ci_low, each.scorecard.ci_high),
            verdict(each.scorecard.verdict),
            formats.local_time(each.score_time),
            formats.local_time(each.replace_time),
            formats.escaped(each.replaced_by),
        )
        for each in found
    ]
    return printing.table(["scorer", "score [95 %]", "verdict", "scored", "replaced", "by"], rows)


def _primary(item: Evaluation) -> str:
    return (
        "–" if item.scorecard is None or item.scorecard.primary_score is None else f"{item.scorecard.primary_score:.4f}"
    )


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
    return printing.table(columns, rows, numbers=["correct", "tokens"])
