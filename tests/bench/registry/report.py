"""The tables: both engines beside each other, and which goals are met."""

from __future__ import annotations

from collections.abc import Mapping

from filling import MLFLOW, OURS, Filled
from latency import Times
from mlflow_peer import MAX_BATCH
from rich.console import Console
from rich.table import Table

# What p95 may be at most, in seconds, by the beginning of a name.
P95_GOALS = {"runs": 0.050, "leaderboard": 0.050, "comparison": 0.100}
SEARCH_RATIO, INGESTION_RATIO = 20.0, 10.0


def print_data(console: Console, kind: str, filled: Mapping[str, Filled]) -> None:
    """What the databases hold, and what that takes."""
    size = filled[OURS].size
    title = f"{kind}: {size.runs:,} runs, {size.points:,} metric points, {size.evaluations:,} evaluations"
    table = Table(title=title)
    for column in ("engine", "on disk", "filled in"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for engine, found in filled.items():
        table.add_row(engine, f"{found.bytes / 1e6:,.0f} MB", f"{found.seconds:.0f} s")
    console.print(table)


def print_reads(console: Console, kind: str, ours: Mapping[str, Times], theirs: Mapping[str, Times]) -> None:
    """Each question, and all that begin alike together: goals are of these."""
    table = Table(title=f"{kind}: reading, milliseconds at the client")
    for column in ("what", "calls", "p50", "p95", "MLflow p50", "p95", "ratio of p50", "goal", "met"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for kind_of, goal in P95_GOALS.items():
        mine = {name: times for name, times in ours.items() if name.startswith(kind_of)}
        if not mine:
            continue
        for name, times in mine.items():
            table.add_row(name, *_cells(times, theirs.get(name)), "", "")
        asked_of_both = [name for name in mine if name in theirs]
        here, there = _together(mine, asked_of_both or list(mine)), _together(theirs, asked_of_both)
        every = _together(mine, list(mine))
        assert here is not None and every is not None
        goals, met = [f"p95 ≤ {goal * 1e3:.0f}"], [every.p95 <= goal]
        if kind_of == "runs" and there is not None:
            goals.append(f"≥ {SEARCH_RATIO:.0f}×")
            met.append(there.p50 / here.p50 >= SEARCH_RATIO)
        cells = [str(len(every.seconds)), _ms(every.p50), _ms(every.p95), *_cells(here, there)[3:]]
        answers = ", ".join("yes" if each else "NO" for each in met)
        table.add_row(f"{kind_of}: all of these", *cells, ", ".join(goals), answers, style="bold", end_section=True)
    if table.rows:
        console.print(table)


def _together(times: Mapping[str, Times], names: list[str]) -> Times | None:
    if not names:
        return None
    return Times(tuple(second for name in names for second in times[name].seconds))


def _cells(ours: Times, theirs: Times | None) -> list[str]:
    cells = [str(len(ours.seconds)), _ms(ours.p50), _ms(ours.p95)]
    if theirs is None:
        return [*cells, "–", "–", "–"]
    return [*cells, _ms(theirs.p50), _ms(theirs.p95), f"{theirs.p50 / ours.p50:.1f}×"]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}"


def print_writes(
    console: Console, kind: str, ours: Mapping[tuple[int, int], float], theirs: Mapping[tuple[int, int], float]
) -> None:
    """Points per second; the goal is held against the same number of clients."""
    if not ours:
        return
    table = Table(title=f"{kind}: reporting metrics, points a second")
    for column in ("clients", "points a call", OURS, f"{MLFLOW} ({MAX_BATCH:,} a call)", "ratio", "goal", "met"):
        table.add_column(column, justify="right")
    for (batch, clients), rate in ours.items():
        there = theirs.get((MAX_BATCH, clients))
        cells = ["–", "–", "", ""]
        if there is not None:
            ratio = rate / there
            met = "yes" if ratio >= INGESTION_RATIO else "NO"
            cells = [f"{there:,.0f}", f"{ratio:.1f}×", f"≥ {INGESTION_RATIO:.0f}×", met]
        table.add_row(str(clients), f"{batch:,}", f"{rate:,.0f}", *cells)
    console.print(table)
