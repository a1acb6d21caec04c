"""Comparisons of evaluations in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tunix_rt.cli import formats, printing
from tunix_rt.contract.enums import ItemChange

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.cli.views.scores import Card, Slice
    from tunix_rt.client import Comparison
    from tunix_rt.client.resources.scores import CandidateItem, Curve, ItemComparison, PairedStatistics


def statistics(stats: PairedStatistics) -> RenderableType:
    """The paired figures of B minus A."""
    seen = f"{stats.detectable:.3f} would be seen with 80 % power" if stats.detectable else ""
    needed = f"{stats.n_needed} items would show it with 80 % power" if stats.n_needed else ""
    changes = f"[green]{stats.n_fixes} fixed[/green], [red]{stats.n_regressions} regressed[/red], {stats.n_same} same"
    rows: list[tuple[str, object]] = [
        ("Δ (B - A)", f"[bold]{formats.signed(stats.delta, stats.ci_low, stats.ci_high)}[/bold]  {stats.ci_method}"),
        ("items", f"{stats.n_paired} paired, {stats.n_unpaired} not: {changes}"),
        ("p two-sided", f"{formats.number(stats.p_value)}  [dim]{stats.p_method}[/dim]"),
        ("p that B is worse", formats.number(stats.p_worse)),
        ("power", ", ".join(filter(None, (seen, needed)))),
    ]
    return printing.fields(rows)


def comparison(result: Comparison, shown: int) -> list[RenderableType]:
    """Scores, differences, and up to ``shown`` items that changed; of a single candidate also the slices."""
    changed = [item for item in result.items if any(each.change is not ItemChange.SAME for each in item.candidates)]
    parts = _one(result, changed[:shown]) if len(result.candidates) == 1 else _several(result, changed[:shown])
    parts.append(f"[dim]scorer {formats.escaped(result.scorer_version)}[/dim]")
    if len(changed) > shown:
        parts.append(f"[dim]… and {len(changed) - shown} more; --items shows more, --json all[/dim]")
    return parts


def _one(result: Comparison, changed: Sequence[ItemComparison]) -> list[RenderableType]:
    (candidate,) = result.candidates
    parts: list[RenderableType] = [
        printing.fields(
            [
                ("A", f"{result.baseline_evaluation_id}  {score_of(result.baseline_scorecard)}"),
                ("B", f"{candidate.evaluation_id}  {score_of(candidate.scorecard)}"),
                *_curves(result),
            ]
        ),
        statistics(candidate.statistics),
    ]
    if candidate.slices:
        rows = [
            (s.dimension, formats.escaped(s.value), s.n_paired, formats.signed(s.delta), formats.number(s.p_adjusted))
            for s in candidate.slices
        ]
        parts.append(printing.table(["dimension", "value", "items", "Δ", "p (Holm)"], rows, numbers=["items"]))
    if changed:
        parts.append(_item_table(changed))
    return parts


def _several(result: Comparison, changed: Sequence[ItemComparison]) -> list[RenderableType]:
    names = [chr(ord("B") + index) if index < 25 else f"#{index + 1}" for index in range(len(result.candidates))]
    rows = [
        (
            name,
            score_of(each.scorecard),
            formats.signed(each.statistics.delta, each.statistics.ci_low, each.statistics.ci_high),
            f"[green]{each.statistics.n_fixes}[/green]",
            f"[red]{each.statistics.n_regressions}[/red]",
            formats.number(each.statistics.p_value),
            formats.number(each.p_adjusted),
            each.evaluation_id,
        )
        for name, each in zip(names, result.candidates, strict=True)
    ]
    columns = ["", "score [95 %]", "Δ to A [95 %]", "fixed", "regressed", "p", "p (Holm)", "evaluation id"]
    baseline = f"{result.baseline_evaluation_id}  {score_of(result.baseline_scorecard)}"
    parts: list[RenderableType] = [
        printing.fields([("A", baseline), *_curves(result)]),
        printing.table(columns, rows, numbers=["fixed", "regressed"]),
    ]
    if changed:
        cells = [
            (
                formats.escaped(item.item_id),
                formats.escaped(item.expected_answer, 30),
                _item_score(item.baseline_score),
                *(_candidate_cell(each) for each in item.candidates),
            )
            for item in changed
        ]
        parts.append(printing.table(["item", "expected", "A", *names], cells, numbers=["A"]))
    return parts


def _curves(result: Comparison) -> list[tuple[str, object]]:
    return [(f"{curve.metric} of {curve.run_id}", curve_line(curve)) for curve in result.curves]


def curve_line(curve: Curve) -> str:
    """A sparkline with the first and the last value."""
    first, last = formats.number(curve.values[0]), formats.number(curve.values[-1])
    return (
        f"{formats.sparkline(curve.values)}  {first} → {last}  [dim]steps {curve.steps[0]} to {curve.steps[-1]}[/dim]"
    )


def score_of(card: Card | Slice) -> str:
    """The primary score with its interval; "–" if no item was scored."""
    return formats.score(card.primary_score, card.ci_low, card.ci_high)


def _candidate_cell(item: CandidateItem) -> str:
    score = _item_score(item.score)
    return score if item.change is ItemChange.SAME else f"{score} {formats.styled(item.change)}"


def _item_score(value: float | None) -> str:
    return "–" if value is None else formats.number(value)


def _item_table(items: Iterable[ItemComparison]) -> RenderableType:
    rows = [
        (
            formats.escaped(item.item_id),
            formats.styled(candidate.change),
            _item_score(item.baseline_score),
            _item_score(candidate.score),
            formats.escaped(item.expected_answer, 30),
            formats.escaped(item.baseline_prediction[-60:], 60),
            formats.escaped(candidate.prediction[-60:], 60),
        )
        for item in items
        for candidate in item.candidates
    ]
    columns = ["item", "change", "A", "B", "expected", "A answered (end)", "B answered (end)"]
    return printing.table(columns, rows, numbers=["A", "B"])
