"""A sweep as one table: a row for each trial, an axis for each parameter. For `sweeps data`, plots, and what is shown
while it runs. Pure.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from tunix_rt.contract.enums import JobState, Reason

if TYPE_CHECKING:
    from tunix_rt.client.resources.sweep_records import Parameter
    from tunix_rt.client.resources.sweeps import Sweep, Trial

Outcome = Literal["SUCCEEDED", "STOPPED", "FAILED", "CANCELLED", "RUNNING", "QUEUED"]


@dataclass(frozen=True)
class Axis:
    """A parameter's domain: its ends, where it has any, or the ``values`` of a choice or grid."""

    name: str
    domain: str
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False


@dataclass(frozen=True)
class Row:
    """A trial. ``running_best`` is the best objective of the trials up to this one, by number; None before any."""

    number: int
    configuration: int
    repeat: int
    trial_id: str
    run_id: str
    outcome: Outcome
    objective: float | None
    ci_low: float | None
    ci_high: float | None
    running_best: float | None
    reported_value: float | None
    reported_step: int
    steps: int
    parameters: dict[str, Any]


_COLUMNS: Final = tuple(name for name in Row.__dataclass_fields__ if name != "parameters")


@dataclass(frozen=True)
class SweepTable:
    """``mode`` is "MAX" or "MIN"; ``rows`` are by number."""

    sweep_id: str
    display_name: str
    metric: str
    mode: str
    axes: tuple[Axis, ...]
    rows: tuple[Row, ...]

    @property
    def best(self) -> Row | None:
        """The succeeded trial with the best objective, the first of equals."""
        scored = [row for row in self.rows if row.outcome == "SUCCEEDED" and row.objective is not None]
        if not scored:
            return None
        return (max if self.mode == "MAX" else min)(scored, key=lambda row: row.objective or 0.0)

    def count(self, outcome: Outcome) -> int:
        """Trials with that outcome."""
        return sum(row.outcome == outcome for row in self.rows)

    def document(self) -> dict[str, Any]:
        """As JSON: what the axes are, then one object for each trial."""
        return {
            "sweep_id": self.sweep_id,
            "objective": {"metric": self.metric, "mode": self.mode},
            "axes": [asdict(axis) for axis in self.axes],
            "trials": [asdict(row) for row in self.rows],
        }

    def csv(self) -> str:
        """One line for each trial, with a column for each parameter; empty where there is nothing."""
        names = [axis.name for axis in self.axes]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*_COLUMNS, *names])
        for row in self.rows:
            known = [getattr(row, name) for name in _COLUMNS]
            writer.writerow([*known, *(row.parameters.get(name) for name in names)])
        return text.getvalue()


def sweep_table(sweep: Sweep, trials: Sequence[Trial]) -> SweepTable:
    """The table of a sweep and its trials, in whatever order they come."""
    mode = sweep.spec.objective.mode
    better = min if mode == "MIN" else max
    rows: list[Row] = []
    best: float | None = None
    for trial in sorted(trials, key=lambda trial: trial.number):
        outcome = outcome_of(trial)
        if outcome == "SUCCEEDED" and trial.objective is not None:
            best = trial.objective if best is None else better(best, trial.objective)
        rows.append(_row(trial, outcome, best))
    axes = tuple(_axis(parameter) for parameter in sweep.spec.parameters)
    return SweepTable(sweep.id, sweep.display_name, sweep.spec.objective.metric, mode, axes, tuple(rows))


def outcome_of(trial: Trial) -> Outcome:
    """How a trial stands: STOPPED is early, by the scheduler, and neither failed nor cancelled."""
    if trial.state is JobState.CANCELLED:
        return "STOPPED" if trial.reason is Reason.EARLY_STOPPED else "CANCELLED"
    known: dict[JobState, Outcome] = {
        JobState.SUCCEEDED: "SUCCEEDED",
        JobState.FAILED: "FAILED",
        JobState.RUNNING: "RUNNING",
        JobState.CANCELLING: "RUNNING",
    }
    return known.get(trial.state, "QUEUED")


def _row(trial: Trial, outcome: Outcome, best: float | None) -> Row:
    return Row(
        number=trial.number,
        configuration=trial.configuration,
        repeat=trial.repeat,
        trial_id=trial.id,
        run_id=trial.run_id,
        outcome=outcome,
        objective=trial.objective,
        ci_low=trial.ci_low,
        ci_high=trial.ci_high,
        running_best=best,
        reported_value=trial.reported_value,
        reported_step=trial.reported_step,
        steps=trial.steps,
        parameters=trial.parameters,
    )


def _axis(parameter: Parameter) -> Axis:
    domain, ends = parameter.domain
    if domain in ("choice", "grid"):
        return Axis(parameter.name, domain, ends.values)
    if domain in ("", "normal"):
        return Axis(parameter.name, domain)
    # randint leaves its upper end out.
    return Axis(parameter.name, domain, (), ends.low, ends.high - (domain == "randint"), domain == "loguniform")
