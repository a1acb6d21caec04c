"""Live progress of jobs: a bar where there is a terminal, lines where there is none, JSON lines where asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from tunix_rt.cli import formats, printing

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from tunix_rt.client.resources import jobs
    from tunix_rt.contract.enums import JobState, Reason

# Metrics shown beside the bar: the trainer's name → the label.
HEADLINE_METRICS = {"loss": "loss", "tokens_per_second": "tok/s"}


class Job(Protocol):
    """A run, evaluation or sweep."""

    @property
    def id(self) -> str: ...
    @property
    def state(self) -> JobState: ...
    @property
    def reason(self) -> Reason: ...
    @property
    def message(self) -> str: ...
    @property
    def progress(self) -> jobs.Progress: ...


def headline(metrics: Mapping[str, float]) -> str:
    """``"loss 1.83  tok/s 12,345"`` from a run's last metrics."""
    shown = {label: metrics[key] for key, label in HEADLINE_METRICS.items() if key in metrics}
    return "  ".join(f"{label} {formats.number(value)}" for label, value in shown.items())


class JobDisplay:
    """Shows one job at a time, as it is now. Use as a context manager; call `update` with every state."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._lines: dict[str, str] = {}

    def __enter__(self) -> Self:
        if not self._as_json and sys.stdout.isatty():
            self._bar = _bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, job: Any, label: str, beside: str = "") -> None:
        """Show ``job`` (a record with the fields of `Job`) under ``label``, with ``beside`` after its bar."""
        if self._as_json:
            printing.print_json(job)
        elif self._bar is not None:
            self._update_bar(job, label, beside)
        else:
            self._print_line(job, label, beside)

    def _update_bar(self, job: Job, label: str, beside: str) -> None:
        assert self._bar is not None
        if job.id not in self._tasks:
            self._tasks[job.id] = self._bar.add_task(label, total=None, state="", stage="", beside="")
        self._bar.update(
            self._tasks[job.id],
            description=label,
            completed=job.progress.done,
            total=job.progress.total or None,
            state=formats.state_of(job.state, job.reason),
            stage=formats.escaped(job.progress.stage, 24),
            beside=beside,
        )

    def _print_line(self, job: Job, label: str, beside: str) -> None:
        """A line for every state and every tenth of the way."""
        progress = job.progress
        tenth = progress.done * 10 // progress.total if progress.total else 0
        key = f"{job.state}/{progress.stage}/{tenth}"
        if self._lines.get(job.id) != key:
            self._lines[job.id] = key
            way = f"{progress.done}/{progress.total} {progress.unit}" if progress.total else ""
            state = formats.state_of(job.state, job.reason)
            parts = (label, state, formats.escaped(progress.stage), way, beside, formats.escaped(job.message))
            printing.show("  ".join(part for part in parts if part))


def _bar() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        TextColumn("{task.fields[state]}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[stage]}[/dim]"),
        TextColumn("{task.fields[beside]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=printing.console(),
    )


class Phases:
    """Says on standard error which part of long work goes on and how far it is.

    A bar that disappears where there is a terminal, else a line every few seconds; nothing for work that ends sooner.
    Use as a context manager.
    """

    def __init__(self, seconds: float = 5.0) -> None:
        """``seconds`` between two lines where there is no terminal."""
        self._seconds = seconds
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._label = ""
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                TextColumn("{task.fields[count]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, label: str, done: int | None = None, total: int | None = None) -> None:
        """Say that ``done`` (of ``total``, where that is known) is done of the part called ``label``."""
        count = "" if done is None else f"{done:,}" if total is None else f"{done / max(total, 1):.0%}"
        if self._bar is not None:
            if self._task is None or label != self._label:
                if self._task is not None:
                    self._bar.remove_task(self._task)
                self._task = self._bar.add_task(label, total=total, count=count)
            self._bar.update(self._task, completed=done or 0, count=count)
        elif time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            print(f"{label} {count}".rstrip(), file=sys.stderr)
        self._label = label


class Counted:
    """Says on standard error how far long work is: a line every few seconds, none for work that ends sooner."""

    def __init__(self, done: str, total: int, seconds: float = 5.0) -> None:
        """``done``: what was done, such as "scored". ``seconds`` between two lines."""
        self._done, self._total, self._seconds = done, total, seconds
        self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        """Say that ``done`` of them are done, if it is time."""
        now = time.monotonic()
        if now - self._last >= self._seconds:
            self._last = now
            print(f"{self._done} {done} of {self._total}", file=sys.stderr)
