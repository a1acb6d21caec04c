"""Prints the demo's stages, live progress (lines where there is no terminal) and tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from tunix_rt.cli.demo.result import Decision, Score, Swept
from tunix_rt.client import Comparison, Dataset, EvalSet, Evaluation, Leaderboard, Run, SweepProgress
from tunix_rt.client.resources.jobs import Progress as JobProgress
from tunix_rt.contract.enums import ItemChange, JobState

# Without a terminal, a line at most this often.
LINE_SECONDS = 5.0
LINE_WIDTH = 120
BAR_CELLS = 40


class Bar:
    """One job's progress. Its methods fit ``on_change`` of the SDK's waits."""

    def __init__(self, console: Console, name: str, live: Progress | None, task: TaskID | None) -> None:
        self._console = console
        self._name = name
        self._live = live
        self._task = task
        self._last_line = 0.0

    def run(self, run: Run) -> None:
        loss = run.last_metrics.get("loss")
        shown = f"loss {loss:.3f}" if loss is not None else ""
        rate = run.last_metrics.get("tokens_per_second")
        shown += f", {rate:,.0f} tokens/s" if rate else ""
        self._show(run.state, run.progress, shown)

    def evaluation(self, evaluation: Evaluation) -> None:
        self._show(evaluation.state, evaluation.progress, "")

    def sweep(self, seen: SweepProgress) -> None:
        objectives = [trial.objective for trial in seen.trials if trial.objective is not None]
        best = f"best {max(objectives):.3f}" if objectives else ""
        self._show(seen.sweep.state, seen.sweep.progress, best)

    def _show(self, state: JobState, progress: JobProgress, extra: str) -> None:
        what = f"{progress.done}/{progress.total} {progress.unit}" if progress.total else progress.stage
        text = "  ".join(part for part in (state.lower(), what, extra) if part)
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=progress.done, total=progress.total or None, text=text)
        elif state.is_terminal or time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self._console.print(f"  {self._name}: {text}")


class Report:
    """Writes to ``console``."""

    def __init__(self, console: Console) -> None:
        if not console.is_terminal:
            console.width = max(console.width, LINE_WIDTH)
        self._console = console
        self._begun = time.monotonic()

    def stage(self, title: str) -> None:
        seconds = time.monotonic() - self._begun
        self._console.print()
        self._console.rule(f"[bold]{escape(title)}[/bold]  [dim]{seconds:.0f} s[/dim]", align="left")

    def line(self, text: str) -> None:
        self._console.print(text)

    @contextmanager
    def progress(self, name: str) -> Iterator[Bar]:
        """A live bar on a terminal, lines elsewhere."""
        if not self._console.is_terminal:
            yield Bar(self._console, name, None, None)
            return
        columns = (
            SpinnerColumn(),
            TextColumn(f"{name:<14}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as live:
            yield Bar(self._console, name, live, live.add_task(name, total=None, text=""))

    def dataset(self, dataset: Dataset, evalset: EvalSet) -> None:
        manifest = dataset.manifest
        self._console.print(
            f"dataset [bold]{dataset.key}[/bold] {dataset.id}: {manifest.trace_count} traces, "
            f"{manifest.token_lengths.mean:.0f} tokens on average, "
            f"{manifest.dropped_contaminated} left out because the evalset holds them"
        )
        self._console.print(f"evalset [bold]{evalset.key}[/bold] {evalset.id}: {evalset.item_count} items")

    def scorecards(self, scores: Mapping[str, Score]) -> None:
        table = Table("model", "primary_score", "95 % interval", "n", "coverage", "format", "trace coherence", "")
        for name, score in scores.items():
            means = score.metric_means
            table.add_row(
                name,
                f"{score.primary_score:.3f}",
                f"[{score.ci_low:.3f}, {score.ci_high:.3f}]".replace("[", r"\["),
                f"{score.n_scored}/{score.n_items}",
                f"{score.coverage:.0%}",
                f"{means.get('format_compliance', float('nan')):.2f}",
                f"{means.get('trace_coherence', float('nan')):.2f}",
                interval(score.ci_low, score.primary_score, score.ci_high),
            )
        self._console.print(table)

    def leaderboard(self, board: Leaderboard) -> None:
        table = Table("rank", "run", "primary_score", "95 % interval", "", title="leaderboard", title_justify="left")
        for entry in board.entries:
            table.add_row(
                f"{entry.rank}{' =' if entry.tied_with_first and entry.rank > 1 else ''}",
                entry.run_display_name or entry.model_id,
                f"{entry.primary_score:.3f}",
                rf"\[{entry.ci_low:.3f}, {entry.ci_high:.3f}]",
                interval(entry.ci_low, entry.primary_score, entry.ci_high),
            )
        self._console.print(table)

    def decision(self, decision: Decision) -> None:
        colour = {"PASS": "green", "FAIL": "red"}.get(decision.verdict, "yellow")
        self._console.print(
            f"gate {decision.candidate} against {decision.baseline}: [bold {colour}]{decision.verdict}[/]  "
            f"{escape(decision.explanation)}"
        )

    def comparison(self, comparison: Comparison) -> None:
        paired = comparison.candidates[0].statistics
        self._console.print(
            f"B − A on the same {paired.n_paired} items: [bold]{paired.delta:+.3f}[/bold] "
            rf"\[{paired.ci_low:+.3f}, {paired.ci_high:+.3f}] (95 %, {paired.ci_method}), p = {paired.p_value:.2g}; "
            f"{paired.n_fixes} fixes, {paired.n_regressions} regressions, {paired.n_same} the same"
        )
        names = {ItemChange.FIX: "fix", ItemChange.REGRESSION: "regression"}
        table = Table("item", "change", "expected", "A answered", "B answered")
        changed = [(item, item.candidates[0]) for item in comparison.items if item.candidates[0].change in names]
        for item, candidate in changed[:6]:
            table.add_row(
                item.item_id,
                names[candidate.change],
                escape(item.expected_answer),
                escape(_tail(item.baseline_prediction)),
                escape(_tail(candidate.prediction)),
            )
        self._console.print(table)

    def sweep(self, swept: Swept) -> None:
        names = sorted({name for trial in swept.trials for name in trial.parameters})
        table = Table("trial", "state", *names, "objective", "")
        for trial in swept.trials:
            values = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in map(trial.parameters.get, names))
            score = "" if trial.objective is None else f"{trial.objective:.3f}"
            mark = "[green]best[/green]" if trial.number == swept.best else ""
            table.add_row(str(trial.number), trial.state, *values, score, mark)
        self._console.print(table)

    def answer(self, question: str, answer: str) -> None:
        self._console.print(Panel(escape(answer.strip()), title=escape(question), title_align="left"))


def interval(low: float, point: float, high: float) -> str:
    """A line from 0 to 1 with the interval and its point, as a picture."""
    cells = ["·"] * BAR_CELLS
    first, last = (min(int(x * BAR_CELLS), BAR_CELLS - 1) for x in (low, high))
    cells[first : last + 1] = "━" * (last - first + 1)
    cells[min(int(point * BAR_CELLS), BAR_CELLS - 1)] = "●"
    return "".join(cells)


def _tail(text: str, width: int = 44) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else "…" + line[-width:]
