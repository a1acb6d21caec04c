"""A sweep as one table: a row for each trial, an axis for each parameter. For `sweeps data`, plots, and what is shown
while it runs. Pure.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from tunix_rt.v1 import sweeps_pb2

Outcome = Literal["succeeded", "stopped", "failed", "cancelled", "running", "queued"]


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
        scored = [row for row in self.rows if row.outcome == "succeeded" and row.objective is not None]
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


def sweep_table(sweep: sweeps_pb2.Sweep, trials: Sequence[sweeps_pb2.Trial]) -> SweepTable:
    """The table of a sweep and its trials, in whatever order they come."""
    from tunix_rt.client.arguments import enum_name
    from tunix_rt.v1 import sweeps_pb2

    mode = enum_name(sweeps_pb2.ObjectiveMode.DESCRIPTOR, sweep.spec.objective.mode)
    better = min if mode == "MIN" else max
    rows: list[Row] = []
    best: float | None = None
    for trial in sorted(trials, key=lambda trial: trial.number):
        outcome = outcome_of(trial)
        if outcome == "succeeded" and trial.HasField("objective"):
            best = trial.objective if best is None else better(best, trial.objective)
        rows.append(_row(trial, outcome, best))
    axes = tuple(_axis(parameter) for parameter in sweep.spec.parameters)
    return SweepTable(sweep.id, sweep.display_name, sweep.spec.objective.metric, mode, axes, tuple(rows))


def outcome_of(trial: sweeps_pb2.Trial) -> Outcome:
    """How a trial stands: stopped is early, by the scheduler, and neither failed nor cancelled."""
    from tunix_rt.v1 import common_pb2

    if trial.state == common_pb2.JOB_STATE_CANCELLED:
        return "stopped" if trial.reason == common_pb2.REASON_EARLY_STOPPED else "cancelled"
    known: dict[int, Outcome] = {
        common_pb2.JOB_STATE_SUCCEEDED: "succeeded",
        common_pb2.JOB_STATE_FAILED: "failed",
        common_pb2.JOB_STATE_RUNNING: "running",
        common_pb2.JOB_STATE_CANCELLING: "running",
    }
    return known.get(trial.state, "queued")


def _row(trial: sweeps_pb2.Trial, outcome: Outcome, best: float | None) -> Row:
    from tunix_rt.evidence.messages import json_value

    return Row(
        number=trial.number,
        configuration=trial.configuration,
        repeat=trial.repeat,
        trial_id=trial.id,
        run_id=trial.run_id,
        outcome=outcome,
        objective=trial.objective if trial.HasField("objective") else None,
        ci_low=trial.ci_low if trial.HasField("ci_low") else None,
        ci_high=trial.ci_high if trial.HasField("ci_high") else None,
        running_best=best,
        reported_value=trial.reported_value if trial.HasField("reported_value") else None,
        reported_step=trial.reported_step,
        steps=trial.steps,
        parameters=json_value(trial.parameters),
    )


def _axis(parameter: sweeps_pb2.Parameter) -> Axis:
    from tunix_rt.evidence.messages import json_value

    domain = parameter.WhichOneof("domain") or ""
    if domain in ("choice", "grid"):
        values = (parameter.choice if domain == "choice" else parameter.grid).values
        return Axis(parameter.name, domain, tuple(json_value(value) for value in values))
    if domain in ("", "normal"):
        return Axis(parameter.name, domain)
    ends = getattr(parameter, domain)
    # randint leaves its upper end out.
    return Axis(parameter.name, domain, (), ends.low, ends.high - (domain == "randint"), domain == "loguniform")
