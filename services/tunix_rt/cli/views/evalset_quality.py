"""The quality report of an evalset in a terminal, and in words which differences it can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from tunix_rt.cli import formats, printing
from tunix_rt.cli.views.dataset_quality import bar, findings, more

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.traces.evalset_report import EvalSetReport


class Resolution(Protocol):
    """A smallest detectable difference, of a report or of the contracts."""

    @property
    def discordance(self) -> float: ...

    @property
    def difference(self) -> float: ...


def report(path: str, found: EvalSetReport, shown: int) -> list[RenderableType]:
    """The whole report, with up to ``shown`` similar items."""
    statistics = found.evalset.statistics
    items = statistics.item_count
    clustered = "" if found.independent == items else f" that count as {found.independent} (each cluster as one)"
    common = found.common_answer
    rows: list[tuple[str, object]] = [
        ("evalset", formats.escaped(path)),
        ("digest", found.evalset.digest),
        ("items", f"{items}{clustered}"),
        ("guessing", f"always answering “{formats.escaped(common.answer, 40)}” scores {common.items / items:.3f}"),
    ]
    labels = {
        "section": statistics.sections,
        "category": statistics.categories,
        "difficulty": statistics.difficulties,
        "answer type": statistics.answer_types,
    }
    parts: list[RenderableType] = [printing.fields(rows), *findings(found.findings())]
    parts += [_label(name, counts) for name, counts in labels.items()]
    return parts + _similar(found, shown) + resolution(found.detectable)


def resolution(detectable: Sequence[Resolution]) -> list[RenderableType]:
    """Which differences two models must have for a comparison to show them; nothing of an empty list."""
    if not detectable:
        return []
    rows = [(f"{each.discordance:.0%} of the items", in_words(each)) for each in detectable]
    title = "What a comparison of two models on these items can show (paired, two-sided 5 %, power 80 %)"
    return [printing.table(["where they differ on", "it shows"], rows, title=title)]


def in_words(each: Resolution) -> str:
    """``"differences of 0.091 or more"``, or that so few differing items show none."""
    if each.difference > each.discordance:
        return f"nothing, even if one model is better on all of them; that takes {each.difference:.1%} of the items"
    return f"differences of {each.difference:.3f} or more"


def _label(name: str, counts: Mapping[str, int]) -> RenderableType:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [(formats.escaped(value, 40), count, bar(count, ordered[0][1])) for value, count in ordered]
    return printing.table([name, "items", ""], rows, numbers=["items"])


def _similar(found: EvalSetReport, shown: int) -> list[RenderableType]:
    if not found.similar:
        return []
    rows = [
        (
            formats.escaped(each.item_id),
            formats.escaped(each.earlier_id),
            "equal" if each.equal else f"{each.similarity:.2f}",
            "same" if each.same_answer else "[yellow]another[/yellow]",
            "same" if each.same_cluster else "",
        )
        for each in found.similar
    ]
    columns = ["item", "resembles", "similarity", "answer", "cluster"]
    table = printing.table(columns, rows[:shown], title="Items that resemble an earlier one")
    return [table, *more(len(rows), shown)]
