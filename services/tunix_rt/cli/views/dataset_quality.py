"""The quality report of a dataset in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tunix_rt.cli import formats, printing

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.traces.contamination import Leaks
    from tunix_rt.traces.quality_report import Finding, QualityReport

BAR_WIDTH = 40
_LEVELS = {"problem": "[bold red]problem[/bold red]", "warning": "[yellow]warning[/yellow]"}


def report(name: str, found: QualityReport, shown: int) -> list[RenderableType]:
    """The whole report: the verdict first, then what it rests on, with up to ``shown`` examples of each kind."""
    parts: list[RenderableType] = [
        printing.fields(
            [("dataset", formats.escaped(name)), ("valid traces", len(found.lines)), ("tokens", _tokens(found))]
        )
    ]
    parts += findings(found.findings())
    sections = (_failures, _repeated, _near, _contamination, _lengths, _categories, _doubts)
    return parts + [part for section in sections for part in section(found, shown)]


def findings(found: Sequence[Finding]) -> list[RenderableType]:
    """The verdict in one table, or one line when there is nothing to say."""
    if not found:
        return ["[green]clean[/green]: no problem and no warning", ""]
    rows = [(_LEVELS[finding.level], finding.count, formats.escaped(finding.text)) for finding in found]
    return [printing.table(["", "count", "what"], rows, numbers=["count"])]


def bar(count: float, most: float) -> str:
    """A bar of up to 40 cells; anything above 0 shows."""
    return "█" * max(1, round(BAR_WIDTH * count / most)) if count else ""


def more(total: int, shown: int) -> list[RenderableType]:
    """A line with the number of rows not shown; empty if all are."""
    return [f"[dim]… and {total - shown} more; --show shows more, --json all[/dim]"] if total > shown else []


def _tokens(found: QualityReport) -> str:
    lengths = found.token_lengths
    if lengths is None:
        return ""
    return (
        f"{lengths.total} ({lengths.tokenizer}): {lengths.min}…{lengths.max} a trace, mean {lengths.mean:.1f}, "
        f"p50 {lengths.p50:g}, p95 {lengths.p95:g}"
    )


def _failures(found: QualityReport, shown: int) -> list[RenderableType]:
    if not found.failures:
        return []
    most = max(found.failures_by_kind.values())
    kinds = [(formats.escaped(kind), n, bar(n, most)) for kind, n in found.failures_by_kind.items()]
    rows = [(f.line or "", formats.escaped(f.field), formats.escaped(f.description, 100)) for f in found.failures]
    return [
        printing.table(["what is wrong", "count", ""], kinds, title="Lines that are not traces", numbers=["count"]),
        printing.table(["line", "field", "why"], rows[:shown], numbers=["line"]),
        *more(len(rows), shown),
    ]


def _repeated(found: QualityReport, shown: int) -> list[RenderableType]:
    groups = sorted(found.repeats.prompts, key=lambda group: not group.conflicting)
    if not groups:
        return []
    rows = [
        (
            _lines(found, group.positions),
            "[yellow]differ[/yellow]" if group.conflicting else "same",
            formats.escaped(" | ".join(group.answers), 50),
            formats.escaped(group.prompt, 80),
        )
        for group in groups
    ]
    table = printing.table(["lines", "answers", "", "prompt"], rows[:shown], title="Several traces of one prompt")
    return [table, *more(len(rows), shown)]


def _near(found: QualityReport, shown: int) -> list[RenderableType]:
    groups = sorted(found.repeats.near, key=lambda group: -len(group.positions))
    if not groups:
        return []
    rows = [
        (_lines(found, g.positions), len(g.positions), f"{g.similarity:.2f}", formats.escaped(g.prompt, 80))
        for g in groups
    ]
    columns = ["lines", "traces", "similarity", "first prompt"]
    title = "Near-duplicate prompts (Jaccard similarity of 5-word runs, at least 0.8)"
    return [printing.table(columns, rows[:shown], title=title, numbers=columns[1:3]), *more(len(rows), shown)]


def _contamination(found: QualityReport, shown: int) -> list[RenderableType]:
    if not found.leaks:
        return ["[dim]contamination was not checked; name evalsets with --evalset[/dim]"]
    rows = [
        (
            formats.escaped(leaks.evalset),
            leaks.item_count,
            leaks.exact_items,
            leaks.near_items,
            leaks.ngram_items,
            leaks.answered_items,
            len(leaks.overlaps),
        )
        for leaks in found.leaks
    ]
    columns = ["evalset", "items", "exact", "near", "13-gram", "answer given", "traces"]
    title = "Contamination: items whose prompt is in the dataset, equal, nearly, or in a run of 13 words"
    parts: list[RenderableType] = [printing.table(columns, rows, title=title, numbers=columns[1:])]
    return parts + [part for leaks in found.leaks for part in _overlaps(found, leaks, shown)]


def _overlaps(found: QualityReport, leaks: Leaks, shown: int) -> list[RenderableType]:
    if not leaks.overlaps:
        return []
    rows = [
        (
            found.lines[overlap.trace],
            formats.escaped(overlap.item_id),
            overlap.kind,
            "" if overlap.similarity is None else f"{overlap.similarity:.2f}",
            "gives the answer" if overlap.same_answer else "",
        )
        for overlap in leaks.overlaps
    ]
    columns = ["line", "item", "overlap", "similarity", ""]
    table = printing.table(columns, rows[:shown], title=f"Traces that overlap with {leaks.evalset}", numbers=["line"])
    return [table, *more(len(rows), shown)]


def _lengths(found: QualityReport, shown: int) -> list[RenderableType]:
    if not found.histogram:
        return []
    most = max(each.count for each in found.histogram)
    rows = [(f"{each.low}–{each.high}", each.count, bar(each.count, most)) for each in found.histogram]
    parts: list[RenderableType] = [
        printing.table(
            ["tokens", "traces", ""], rows, title="Length of prompt and completion", numbers=["tokens", "traces"]
        )
    ]
    if found.budget is not None:
        share = found.budget.exceeding / len(found.lines)
        over = f"{found.budget.exceeding} traces ({share:.1%}) exceed {found.budget.limit} tokens"
        lines = f": lines {_numbers(found.budget.lines)}" if found.budget.lines else ""
        parts.append(over + lines)
    return parts


def _categories(found: QualityReport, shown: int) -> list[RenderableType]:
    if not found.categories:
        return []
    most = max(each.trace_count for each in found.categories)
    rows = [
        (
            formats.escaped(each.category, 40),
            each.trace_count,
            bar(each.trace_count, most),
            f"{each.token_lengths.mean:.1f}",
            f"{each.token_lengths.p95:g}",
            each.token_lengths.max,
            f"{each.mean_steps:.1f}",
        )
        for each in found.categories
    ]
    columns = ["category", "traces", "", "tokens", "p95", "max", "steps"]
    return [printing.table(columns, rows, title="Categories (means)", numbers=["traces", *columns[3:]])]


def _doubts(found: QualityReport, shown: int) -> list[RenderableType]:
    if not found.doubts:
        return []
    rows = [
        (found.lines[doubt.position], doubt.kind.replace("_", " "), formats.escaped(doubt.detail, 100))
        for doubt in found.doubts
    ]
    table = printing.table(["line", "doubt", ""], rows[:shown], title="Steps to review", numbers=["line"])
    return [table, *more(len(rows), shown)]


def _lines(found: QualityReport, positions: Iterable[int]) -> str:
    return _numbers([found.lines[position] for position in positions])


def _numbers(numbers: Sequence[int], limit: int = 8) -> str:
    text = ", ".join(map(str, numbers[:limit]))
    return text if len(numbers) <= limit else f"{text}, …"
