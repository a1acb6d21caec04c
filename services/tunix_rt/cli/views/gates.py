"""Gate policies and decisions in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunix_rt.cli import formats, printing
from tunix_rt.cli.views.comparisons import statistics
from tunix_rt.contract.enums import MetricDirection

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.client.resources.gates import GateDecision, GatePolicy, SliceDecision, SliceRule


def policies(items: Iterable[GatePolicy]) -> RenderableType:
    rows = [
        (
            item.id,
            f"{formats.escaped(item.name)}/{item.version}",
            f"{formats.escaped(item.metric)} {'↓' if item.direction is MetricDirection.LOWER_IS_BETTER else '↑'}",
            f"{item.margin:g}",
            f"{item.alpha:g}",
            f"{item.min_coverage:.0%}",
            f"{item.min_effect:g}",
            ", ".join(map(_rule, item.slices)),
            formats.escaped(item.baseline),
            formats.escaped(item.description, 60),
        )
        for item in items
    ]
    columns = ["id", "policy", "metric", "margin", "alpha", "min coverage", "min effect"]
    return printing.table([*columns, "slices", "baseline", "description"], rows, numbers=columns[3:])


def decisions(items: Iterable[GateDecision]) -> RenderableType:
    rows = [
        (
            item.id,
            formats.styled(item.verdict),
            formats.signed(item.statistics.delta) if item.statistics.n_paired else "–",
            item.candidate_evaluation_id,
            item.baseline_evaluation_id,
            formats.local_time(item.create_time),
            formats.escaped(item.explanation, 70),
        )
        for item in items
    ]
    return printing.table(["id", "verdict", "Δ", "candidate id", "baseline id", "decided", "why"], rows)


def decision(item: GateDecision) -> list[RenderableType]:
    """The verdict, the rule that decided, and what became of every slice."""
    rows: list[tuple[str, object]] = [
        ("gate", formats.styled(item.verdict)),
        ("why", formats.escaped(item.explanation)),
        ("metric", formats.escaped(item.metric)),
        ("Δ bounded by", f"{item.lower_bound:+.3f}" if item.lower_bound is not None else ""),
        ("items needed", item.items_needed or ""),
        ("candidate", item.candidate_evaluation_id),
        ("baseline", item.baseline_evaluation_id),
        ("policy", item.policy_id),
        ("decision", f"{item.id}  [dim]{item.digest[:19]}…[/dim]"),
        ("scores", "verified by the registry" if item.verified else "[yellow]not verified[/yellow]"),
        ("scorer", item.scorer_version),
    ]
    parts = [printing.fields(rows)]
    if item.statistics.n_paired:
        parts.append(statistics(item.statistics))
    if item.slices:
        parts.append(_slices(item.slices))
    return parts


def _slices(items: Iterable[SliceDecision]) -> RenderableType:
    rows = [
        (
            f"{each.dimension} {formats.escaped(each.value)}",
            each.tier.lower(),
            formats.styled(each.verdict),
            each.n_paired,
            each.n_regressions,
            each.n_fixes,
            formats.signed(each.delta),
            formats.number(each.p_worse),
            formats.number(each.p_adjusted),
        )
        for each in items
    ]
    columns = ["slice", "tier", "verdict", "items", "regressed", "fixed", "Δ", "p that worse", "p (Holm)"]
    return printing.table(columns, rows, numbers=columns[3:])


def _rule(rule: SliceRule) -> str:
    name = f"{rule.dimension}={formats.escaped(rule.value)}" if rule.value else f"every {rule.dimension}"
    least = f" by {rule.min_effect:g}" if rule.min_effect is not None else ""
    return f"{rule.tier.lower()} {name}{least}"
