"""Trials: one suggestion each, with the ordinary run that carries it out, made in one transaction.

How a trial then follows its run is `sweep_progress`. Does not know search algorithms.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import FailedPrecondition, NotFound
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.states import JobState, Reason, record_creation
from tunix_rt.registry.runs.rules import create_run
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow, sweep_spec


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


def create_trial(session: Session, sweep: SweepRow, trial: TrialRow, run: RunRow) -> TrialRow:
    """Store a checked suggestion and the run that carries it out; the caller holds the sweep's lease, and knows that
    the number is new.

    One that replaces another of its population stops that one in the same transaction.

    It resets the sweep's failures: an attempt that got on does not count against ``max_attempts``. Whether trials may
    begin is asked before (`check_begins_trials`).
    """
    if trial.origin:
        _give_place(session, sweep, trial)
    record_creation(session, trial, actor=sweep.worker_id)
    create_run(session, run)
    sweep.failures = 0
    session.add(sweep)
    return trial


def _give_place(session: Session, sweep: SweepRow, trial: TrialRow) -> None:
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
    leases.cancel(session, run, reason=Reason.EARLY_STOPPED, message=why, actor=sweep.worker_id)
    session.refresh(trial)
    return trial
