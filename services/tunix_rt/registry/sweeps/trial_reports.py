"""What the runs of trials report while they train: read from the runs, stored nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry.runs.tables import MetricRow, RunRow
from tunix_rt.registry.sweeps.tables import TrialRow


@dataclass(frozen=True)
class TrialReport:
    """``value`` is the last one of the metric asked for, at ``step``; ``steps`` are its own training steps."""

    value: float | None = None
    step: int = 0
    steps: int = 0


NOTHING: Final = TrialReport()


def report_of(
    last_metrics: Mapping[str, Sequence[Any]], progress_done: int, metric: str, start: int = 0
) -> TrialReport:
    """What one run has reported that began at step ``start``; ``metric`` is "" where none is asked for."""
    steps = max(0, max([progress_done, *(int(step) for step, _ in last_metrics.values())]) - start)
    if metric not in last_metrics:
        return TrialReport(steps=steps)
    step, value = last_metrics[metric]
    return TrialReport(value=float(value), step=int(step), steps=steps)


def reports_of(session: Session, trials: Iterable[TrialRow], metric: str) -> dict[str, TrialReport]:
    """By the trials' run ids."""
    starts = {trial.run_id: trial.start for trial in trials}
    found = session.execute(
        select(col(RunRow.id), col(RunRow.last_metrics), col(RunRow.progress_done)).where(col(RunRow.id).in_(starts))
    )
    return {run_id: report_of(last_metrics, done, metric, starts[run_id]) for run_id, last_metrics, done in found}


def reported_trial(session: Session, trial_id: str, metric: str) -> tuple[TrialRow, TrialReport]:
    """The trial with what its run has reported, by one query: it is what a trial's watchers wait for."""
    trial, last_metrics, done = session.execute(
        select(TrialRow, col(RunRow.last_metrics), col(RunRow.progress_done))
        .join(RunRow, col(RunRow.id) == col(TrialRow.run_id))
        .where(col(TrialRow.id) == trial_id)
    ).one()
    return trial, report_of(last_metrics, done, metric, trial.start)


def points_after(session: Session, run_id: str, metric: str, step: int) -> Sequence[MetricRow]:
    """Points of ``metric`` beyond ``step``, by step."""
    return session.scalars(
        select(MetricRow)
        .where(col(MetricRow.run_id) == run_id, col(MetricRow.key) == metric, col(MetricRow.step) > step)
        .order_by(col(MetricRow.step))
    ).all()
