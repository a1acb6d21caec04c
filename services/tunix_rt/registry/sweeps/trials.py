"""Trials: one suggestion each, with the ordinary run that carries it out, made in one transaction; where a trial of a
population starts; and what the runs of trials report while they train.

How a trial then follows its run is `progress`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.contract.identifiers import MAX_DISPLAY_NAME
from tunix_rt.errors import FailedPrecondition, NotFound, Violations
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.rows import new_id, utc_now
from tunix_rt.registry.kernel.states import JobState, Reason, is_terminal, record_creation
from tunix_rt.registry.runs.checks import check_initial_checkpoint
from tunix_rt.registry.runs.reports import checkpoint_steps
from tunix_rt.registry.runs.rules import create_run, new_run
from tunix_rt.registry.runs.tables import MetricRow, RunRow
from tunix_rt.registry.sweeps.checks import read_origin, read_suggestion
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow, sweep_spec
from tunix_rt.search_space.population import Origin
from tunix_rt.v1 import runs_pb2
from tunix_rt.v1 import sweeps_pb2 as pb


def trials_of(session: Session, sweep_id: str) -> Sequence[TrialRow]:
    """Every trial, in order of suggestion."""
    return session.scalars(
        select(TrialRow).where(col(TrialRow.sweep_id) == sweep_id).order_by(col(TrialRow.number))
    ).all()


def find_trial(session: Session, sweep_id: str, number: int) -> TrialRow | None:
    """The trial with that number, if it was created before."""
    return session.scalars(
        select(TrialRow).where(col(TrialRow.sweep_id) == sweep_id, col(TrialRow.number) == number)
    ).first()


def get_trial(session: Session, sweep_id: str, number: int) -> TrialRow:
    """The trial with that number; raises `NotFound`."""
    trial = find_trial(session, sweep_id, number)
    if trial is None:
        raise NotFound(f"sweep {sweep_id!r} has no trial {number}")
    return trial


def new_trial(
    session: Session, sweep: SweepRow, request: pb.CreateTrialRequest, suggested: Mapping[str, Any]
) -> tuple[TrialRow, RunRow]:
    """The trial of a suggestion, and its run; raises `InvalidInput` naming all of it that does not fit the sweep."""
    spec = sweep_spec(sweep)
    configuration, repeat = divmod(request.number, spec.repeats)
    violations = Violations()
    origin = read_origin(spec, request, violations)
    parameters, run = read_suggestion(spec, request.number, suggested, violations, replaces=request.HasField("origin"))
    first = find_trial(session, sweep.id, request.number - repeat) if repeat else None
    if first is not None and not violations.found:
        same = first.parameters == parameters
        violations.check(same, "parameters", f"must be those of trial {first.number}, which this one repeats")
    violations.raise_if_any()
    if origin is not None:
        run = continued(session, sweep, request.number, origin, run)
    trial = TrialRow(
        id=new_id("trial"),
        sweep_id=sweep.id,
        run_id=new_id("run"),
        number=request.number,
        configuration=configuration,
        repeat=repeat,
        observed=list(request.observed),
        origin={} if origin is None else asdict(origin),
        parameters=parameters,
        create_time=utc_now(),
        created_by=sweep.created_by,
    )
    tags = {**sweep.tags, "sweep": sweep.id, "trial": str(request.number)}
    name = f"{sweep.display_name or sweep.id} #{request.number}"[:MAX_DISPLAY_NAME]
    row = new_run(run, display_name=name, tags=tags, actor=sweep.created_by)
    row.id, row.sweep_id, row.trial_id = trial.run_id, sweep.id, trial.id
    return trial, row


def create_trial(session: Session, sweep: SweepRow, trial: TrialRow, run: RunRow) -> TrialRow:
    """Store a checked suggestion and the run that carries it out; the caller holds the sweep's lease, and knows that
    the number is new.

    One that replaces another of its population stops that one in the same transaction.

    It resets the sweep's failures: an attempt that got on does not count against ``max_attempts``. Whether trials may
    begin is asked before (`check_begins_trials`).
    """
    if trial.origin:
        _stop_former(session, sweep, trial)
    record_creation(session, trial, actor=leases.holder_of(session, sweep))
    create_run(session, run)
    sweep.failures = 0
    session.add(sweep)
    return trial


def _stop_former(session: Session, sweep: SweepRow, trial: TrialRow) -> None:
    parent = session.get_one(TrialRow, trial.origin["parent_trial_id"])
    message = f"trial {trial.number} takes its place, from step {trial.start} of trial {parent.number}"
    stop_trial(session, sweep, former_number(sweep, trial.number), message)


def former_number(sweep: SweepRow, number: int) -> int:
    """The number of the trial whose place trial ``number`` of a population takes."""
    return number - sweep_spec(sweep).num_samples


def check_begins_trials(sweep: SweepRow) -> None:
    """Raise `FailedPrecondition` unless trials of ``sweep`` may begin."""
    if sweep.state != JobState.RUNNING:
        raise FailedPrecondition(f"{sweep.id} is {sweep.state}: no more trials")
    if sweep.paused:
        raise FailedPrecondition(f"{sweep.id} is paused: no more trials until it is resumed; release the attempt")


def stop_trial(session: Session, sweep: SweepRow, number: int, message: str) -> TrialRow:
    """Cancel the trial's run as EARLY_STOPPED, unless it has ended; the caller holds the sweep's lease.

    Raises `NotFound`.
    """
    trial = get_trial(session, sweep.id, number)
    run = leases.lock_job(session, RunRow, trial.run_id)
    why = message or "the scheduler sees no use in going on"
    actor = leases.holder_of(session, sweep)
    leases.cancel(session, run, reason=Reason.EARLY_STOPPED, message=why, actor=actor)
    session.refresh(trial)
    return trial


def continued(
    session: Session, sweep: SweepRow, number: int, origin: Origin, run: runs_pb2.RunSpec
) -> runs_pb2.RunSpec:
    """``run`` as it starts from ``origin``.

    Raises `InvalidInput` for a parent or a predecessor that the sweep does not have, or from which such a run cannot
    start, and `FailedPrecondition` while the parent has no such checkpoint, or when the predecessor or its run has
    ended or is to end.
    """
    violations = Violations()
    parent = session.get(TrialRow, origin.parent_trial_id)
    if parent is None or parent.sweep_id != sweep.id:
        violations.add("origin.parent_trial_id", f"{sweep.id} has no trial {origin.parent_trial_id!r}")
    former = find_trial(session, sweep.id, former_number(sweep, number))
    if former is None:
        violations.add("origin.generation", f"trial {former_number(sweep, number)}, which it replaces, does not exist")
    elif former.id == origin.parent_trial_id:
        violations.add("origin.parent_trial_id", "a trial cannot start from the one that it replaces")
    violations.raise_if_any()
    assert parent is not None
    assert former is not None
    # A trial may wait for its score when its run has ended, and a run that a person cancels is not to come back.
    replaced = leases.lock_job(session, RunRow, former.run_id)
    if is_terminal(former) or replaced.state not in (JobState.QUEUED, JobState.RUNNING):
        raise FailedPrecondition(
            f"trial {former.number} is {former.state}, its run {replaced.state}: there is nothing to replace"
        )
    spec = runs_pb2.RunSpec()
    spec.CopyFrom(run)
    spec.initial_checkpoint.run_id, spec.initial_checkpoint.step = parent.run_id, origin.parent_step
    if origin.parent_step not in checkpoint_steps(session, parent.run_id):
        raise FailedPrecondition(f"trial {parent.number} has no checkpoint of step {origin.parent_step}")
    check_initial_checkpoint(session, spec, violations)
    violations.raise_if_any()
    return spec


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
