"""Sweeps and trials as protobuf messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session

from tunix_rt.registry.kernel.leases import JobProgress
from tunix_rt.registry.kernel.messages import reason_value, state_value, timestamp
from tunix_rt.registry.kernel.rows import etag
from tunix_rt.registry.kernel.states import is_terminal
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow, sweep_spec, trial_count
from tunix_rt.registry.sweeps.trials import NOTHING, TrialReport, reports_of
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import sweeps_pb2 as pb


@dataclass(frozen=True)
class TrialSummary:
    """What a sweep shows of its trials."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    stopped: int = 0
    best_trial_id: str = ""


def progress_of(row: SweepRow, trials: TrialSummary) -> JobProgress:
    """Trials that have ended, of those that the sweep is to have; a population makes more than it begins with."""
    total = trial_count(row)
    ended = trials.succeeded + trials.failed + trials.stopped
    return JobProgress(min(ended, total), total, "trials", "")


def sweep_message(row: SweepRow, trials: TrialSummary) -> pb.Sweep:
    """The sweep as clients see it."""
    return pb.Sweep(
        id=row.id,
        display_name=row.display_name,
        spec=sweep_spec(row),
        state=state_value(row.state),
        reason=reason_value(row.reason),
        message=row.message,
        progress=common_pb2.Progress(**asdict(progress_of(row, trials))),
        create_time=timestamp(row.create_time),
        start_time=timestamp(row.start_time),
        end_time=timestamp(row.end_time),
        tags=row.tags,
        etag=etag(row.revision),
        attempts=row.attempts,
        best_trial_id=trials.best_trial_id,
        n_trials=trials.total,
        n_succeeded=trials.succeeded,
        n_failed=trials.failed,
        created_by=row.created_by,
        paused=row.paused and not is_terminal(row),
        n_stopped=trials.stopped,
        trial_count=trial_count(row),
        project=row.project,
        archive_time=timestamp(row.archive_time),
    )


def trial_message(row: TrialRow, report: TrialReport | None) -> pb.Trial:
    """One trial, with what its run has reported; None: nothing yet."""
    report = report or NOTHING
    message = pb.Trial(
        id=row.id,
        sweep_id=row.sweep_id,
        number=row.number,
        run_id=row.run_id,
        state=state_value(row.state),
        reason=reason_value(row.reason),
        message=row.message,
        objective=row.objective,
        ci_low=row.ci_low,
        ci_high=row.ci_high,
        evaluation_id=row.evaluation_id or "",
        create_time=timestamp(row.create_time),
        end_time=timestamp(row.end_time),
        configuration=row.configuration,
        repeat=row.repeat,
        reported_value=report.value,
        reported_step=report.step,
        observed=row.observed,
        steps=report.steps,
        origin=pb.TrialOrigin(**row.origin) if row.origin else None,
    )
    message.parameters.update(row.parameters)
    return message


def trial_messages(session: Session, rows: Sequence[TrialRow]) -> list[pb.Trial]:
    """Trials of one sweep with what their runs have reported."""
    if not rows:
        return []
    metric = sweep_spec(session.get_one(SweepRow, rows[0].sweep_id)).scheduling.metric
    reports = reports_of(session, rows, metric)
    return [trial_message(row, reports.get(row.run_id)) for row in rows]
