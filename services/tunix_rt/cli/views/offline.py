"""Scores that were computed here, without a platform, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunix_rt.cli import formats, output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.quality.scorecard import Scorecard, SliceScore
    from tunix_rt.quality.scoring import ItemScore


_NAMED_MISSING = 20


def scorecard(card: Scorecard, samples_per_item: int = 1) -> list[RenderableType]:
    """The whole card: score, coverage, metrics, slices."""
    means = ", ".join(f"{formats.escaped(k)} {formats.number(v)}" for k, v in sorted(card.metric_means.items()))
    coverage = f"{card.coverage:.1%}  ({card.n_scored} scored, {card.n_skipped} skipped, {card.n_errored} errored)"
    rows: list[tuple[str, object]] = [
        ("primary score", f"[bold]{_score(card)}[/bold]  {_bar(card)}"),
        ("verdict", f"{formats.styled(card.verdict.upper())} [dim]at threshold {card.threshold:g}[/dim]"),
        ("coverage", coverage),
        ("samples", f"{samples_per_item} per item" if samples_per_item > 1 else ""),
        (
            "repeats",
            ", ".join(
                f"{one.statistic.replace('@k', f'@{one.k}')} {formats.number(one.value)}" for one in card.repeats
            ),
        ),
        ("interval", card.ci_method),
        ("metrics", means),
    ]
    slices = [(s.dimension, formats.escaped(s.value), s.n_items, _score(s), _bar(s)) for s in card.slices]
    columns = ["dimension", "value", "items", "score [95 %]", ""]
    return [output.fields(rows), output.table(columns, slices, numbers=["items"])]


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
    return output.table(["item", "outcome", "correct", "answer", "message"], rows, numbers=["correct"])


def _score(part: Scorecard | SliceScore) -> str:
    return formats.score(part.primary_score, part.ci_low, part.ci_high)


def _bar(part: Scorecard | SliceScore) -> str:
    if part.primary_score is None or part.ci_low is None or part.ci_high is None:
        return ""
    return formats.interval_bar(part.primary_score, part.ci_low, part.ci_high)
