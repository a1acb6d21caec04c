"""Runs and evaluations in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

from tunix_rt.cli import formats, printing
from tunix_rt.cli.progress import headline
from tunix_rt.cli.views.comparisons import score_of
from tunix_rt.cli.views.scores import scorecard, verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tunix_rt.client import Evaluation, Run
    from tunix_rt.client.resources.common import LogLine, MetricPoint
    from tunix_rt.client.resources.jobs import Attempt, Progress, Transition
    from tunix_rt.client.resources.runs import Checkpoint


def _way(progress: Progress) -> str:
    return f"{progress.done}/{progress.total} {progress.unit}" if progress.total else ""


def runs(items: Iterable[Run]) -> RenderableType:
    rows = [
        (
            run.id,
            formats.escaped(run.display_name),
            formats.state_of(run.state, run.reason),
            _way(run.progress),
            headline(run.last_metrics),
            formats.escaped(run.spec.base_model),
            formats.local_time(run.create_time),
            formats.duration(run.start_time, run.end_time),
        )
        for run in items
    ]
    return printing.table(["id", "name", "state", "progress", "metrics", "base model", "created", "took"], rows)


def run(item: Run) -> list[RenderableType]:
    """One run with its hyperparameters."""
    evalsets = (f"{part.evalset} (threshold {part.threshold:g})" for part in item.spec.evaluate_on)
    rows: list[tuple[str, object]] = [
        ("run", f"{item.id}  {formats.escaped(item.display_name)}"),
        ("state", formats.state_of(item.state, item.reason)),
        ("message", formats.escaped(item.message)),
        ("warning", formats.warning(item.warning)),
        ("progress", f"{_way(item.progress)}  {formats.escaped(item.progress.stage)}".strip()),
        ("metrics", headline(item.last_metrics)),
        ("base model", formats.escaped(item.spec.base_model)),
        ("dataset", item.spec.dataset_id),
        ("evaluate on", formats.joined(evalsets)),
        ("pool", item.spec.pool),
        ("attempts", f"{item.attempts} of {item.spec.max_attempts}"),
        ("model", item.model_id),
        ("evaluations", formats.joined(item.evaluation_ids)),
        ("sweep", f"{item.sweep_id} {item.trial_id}".strip()),
        ("created", f"{formats.local_time(item.create_time)} by {formats.escaped(item.created_by)}"),
        ("took", formats.duration(item.start_time, item.end_time)),
        ("tags", formats.tags(item.tags)),
    ]
    settings = item.spec.hyperparameters.to_dict()
    hyperparameters = [(name, formats.setting(value)) for name, value in sorted(settings.items())]
    return [printing.fields(rows), "[bold]hyperparameters[/bold]", printing.fields(hyperparameters)]


def attempts(found: Iterable[Attempt], checkpoints: Iterable[Checkpoint]) -> list[RenderableType]:
    rows = [
        (
            attempt.number,
            formats.styled(attempt.outcome),
            attempt.reason or "",
            formats.escaped(attempt.worker_id),
            formats.escaped(attempt.principal),
            attempt.resumed_step,
            formats.local_time(attempt.start_time),
            formats.duration(attempt.start_time, attempt.end_time),
            formats.escaped(attempt.message, 80),
        )
        for attempt in found
    ]
    columns = ["#", "outcome", "reason", "worker", "by", "from step", "started", "took", "message"]
    kept = [
        (checkpoint.step, formats.size_text(checkpoint.size_bytes), formats.local_time(checkpoint.create_time))
        for checkpoint in checkpoints
    ]
    return [
        printing.table(columns, rows, title="attempts", numbers=["#", "from step"]),
        printing.table(["step", "size", "written"], kept, title="checkpoints", numbers=["step", "size"]),
    ]


def history(transitions: Iterable[Transition]) -> RenderableType:
    rows = [
        (
            formats.local_time(row.create_time),
            row.from_state or "",
            formats.state_of(row.to_state, row.reason),
            row.attempt or "",
            formats.escaped(row.actor),
            formats.escaped(row.message),
        )
        for row in transitions
    ]
    return printing.table(["time", "from", "to", "attempt", "by", "message"], rows)


def metrics(points: Iterable[MetricPoint]) -> RenderableType:
    """One line per key: first, last, smallest, largest and the course between."""
    rows = []
    for key, group in groupby(points, key=lambda point: point.key):
        series = list(group)
        values = [point.value for point in series]
        rows.append(
            (
                formats.escaped(key),
                len(series),
                formats.number(values[0]),
                formats.number(values[-1]),
                formats.number(min(values)),
                formats.number(max(values)),
                formats.sparkline(values),
            )
        )
    columns = ["metric", "points", "first", "last", "min", "max", "course"]
    return printing.table(columns, rows, numbers=columns[1:6])


def log_line(line: LogLine) -> str:
    level = line.level
    style = {"WARNING": "yellow", "ERROR": "red", "DEBUG": "dim"}.get(level, "")
    text = formats.escaped(line.message)
    return f"[dim]{formats.local_time(line.time)}[/dim] " + (f"[{style}]{text}[/{style}]" if style else text)


def evaluations(items: Iterable[Evaluation]) -> RenderableType:
    rows = [
        (
            item.id,
            formats.escaped(item.evalset_key),
            formats.state_of(item.state, item.reason),
            score_of(item.scorecard) if item.scorecard is not None else _way(item.progress),
            verdict(item.scorecard.verdict) if item.scorecard is not None else "",
            item.model_id,
            item.run_id,
            formats.local_time(item.create_time),
        )
        for item in items
    ]
    return printing.table(["id", "evalset", "state", "score [95 %]", "verdict", "model id", "run id", "created"], rows)


def evaluation(item: Evaluation) -> list[RenderableType]:
    rows: list[tuple[str, object]] = [
        ("evaluation", item.id),
        ("evalset", f"{formats.escaped(item.evalset_key)}  {item.evalset_id}"),
        ("model", item.model_id),
        ("run", item.run_id),
        ("state", formats.state_of(item.state, item.reason)),
        ("message", formats.escaped(item.message)),
        ("warning", formats.warning(item.warning)),
        ("progress", _way(item.progress)),
        ("score", _verified(item)),
        ("scorer", _scorer(item)),
        ("took", formats.duration(item.start_time, item.end_time)),
        ("tags", formats.tags(item.tags)),
    ]
    return [printing.fields(rows), *scorecard(item.scorecard)]


def _scorer(item: Evaluation) -> str:
    again = "" if item.score_time is None else f"  scored again {formats.local_time(item.score_time)}"
    return "" if item.scorecard is None else f"{formats.escaped(item.identity.scorer_version)}{again}"


def _verified(item: Evaluation) -> str:
    if item.scorecard is None:
        return ""
    return "verified by the registry" if item.verified else "[yellow]not verified[/yellow]"
