"""Sweeps and their trials: creating, claiming, cancelling and completing them.

A trial's run is an ordinary run, made in the transaction that makes the trial. Does not know search algorithms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import FailedPrecondition, NotFound
from tunix_rt.registry import jobs, leases
from tunix_rt.registry.clock import utc_now
from tunix_rt.registry.ids import new_id
from tunix_rt.registry.leases import Lease
from tunix_rt.registry.messages.jobs import transition_message
from tunix_rt.registry.messages.sweeps import TrialSummary, sweep_message
from tunix_rt.registry.outbox import emit_command, emit_fact
from tunix_rt.registry.runs import NewRun, confirm_cancelled, create_run, has_ended_so
from tunix_rt.registry.states import TERMINAL, JobState, Reason, record_creation, transition
from tunix_rt.registry.tables.evaluations import EvaluationRow
from tunix_rt.registry.tables.jobs import JobColumns, TransitionRow
from tunix_rt.registry.tables.runs import RunRow
from tunix_rt.registry.tables.sweeps import SweepRow, TrialRow
from tunix_rt.v1 import events_pb2

COMMAND_SUBJECT: Final = "tunix.cmd.tune"


@dataclass(frozen=True)
class NewSweep:
    """A resolved sweep. ``spec`` is the canonical JSON of a SweepSpec with every field set."""

    spec: str
    objective_metric: str
    objective_mode: str
    max_attempts: int
    display_name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def new_row(new: NewSweep, *, actor: str, sweep_id: str = "") -> SweepRow:
    """The row of a sweep that is about to be created."""
    return SweepRow(
        id=sweep_id,
        display_name=new.display_name,
        spec=new.spec,
        objective_metric=new.objective_metric,
        objective_mode=new.objective_mode,
        tags=dict(new.tags),
        max_attempts=new.max_attempts,
        create_time=utc_now(),
        created_by=actor,
    )


def create_sweep(session: Session, new: NewSweep, *, actor: str) -> SweepRow:
    """Store the sweep and send its command."""
    sweep = new_row(new, actor=actor, sweep_id=new_id("sweep"))
    record_creation(session, sweep, actor=actor)
    jobs.send_command(sweep, session)
    return sweep


def get_sweep(session: Session, sweep_id: str) -> SweepRow:
    """The sweep; raises `NotFound`."""
    sweep = session.get(SweepRow, sweep_id)
    if sweep is None:
        raise NotFound(f"there is no sweep {sweep_id!r}")
    return sweep


def summaries(session: Session, sweeps: Iterable[SweepRow]) -> dict[str, TrialSummary]:
    """What each sweep shows of its trials, by sweep id; of trials with the best objective the first is the best."""
    modes = {sweep.id: sweep.objective_mode for sweep in sweeps}
    counts: dict[str, dict[str, int]] = {sweep_id: {} for sweep_id in modes}
    states = select(col(TrialRow.sweep_id), col(TrialRow.state), func.count()).where(col(TrialRow.sweep_id).in_(modes))
    for sweep_id, state, count in session.execute(states.group_by(col(TrialRow.sweep_id), col(TrialRow.state))):
        counts[sweep_id][state] = count
    return {
        sweep_id: TrialSummary(
            total=sum(of_state.values()),
            succeeded=of_state.get(JobState.SUCCEEDED, 0),
            failed=of_state.get(JobState.FAILED, 0),
            best_trial_id=_best_trial(session, sweep_id, modes[sweep_id]) if JobState.SUCCEEDED in of_state else "",
        )
        for sweep_id, of_state in counts.items()
    }


def _best_trial(session: Session, sweep_id: str, mode: str) -> str:
    objective = col(TrialRow.objective)
    best = session.scalars(
        select(col(TrialRow.id))
        .where(
            col(TrialRow.sweep_id) == sweep_id, col(TrialRow.state) == JobState.SUCCEEDED.value, objective.is_not(None)
        )
        .order_by(objective.asc() if mode == "MIN" else objective.desc(), col(TrialRow.number))
        .limit(1)
    ).first()
    return best or ""


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


def create_trial(
    session: Session, sweep: SweepRow, *, number: int, parameters: Mapping[str, Any], new: NewRun
) -> TrialRow:
    """Store a suggestion and create its run; the caller holds the sweep's lease, and knows that the number is new.

    Raises `FailedPrecondition` when the sweep is being cancelled.
    """
    if sweep.state != JobState.RUNNING:
        raise FailedPrecondition(f"{sweep.id} is {sweep.state}: no more trials")
    trial_id = new_id("trial")
    run_id = new_id("run")
    trial = TrialRow(
        id=trial_id,
        sweep_id=sweep.id,
        number=number,
        parameters=dict(parameters),
        run_id=run_id,
        create_time=utc_now(),
        created_by=sweep.created_by,
    )
    record_creation(session, trial, actor=sweep.worker_id)
    create_run(session, new, actor=sweep.created_by, run_id=run_id, sweep_id=sweep.id, trial_id=trial_id)
    return trial


def cancel_sweep(session: Session, sweep_id: str, *, message: str, actor: str) -> SweepRow:
    """Ask the sweep and every trial that has not ended to end; one that has ended stays as it is. Raises `NotFound`."""
    sweep = leases.lock_job(session, SweepRow, sweep_id)
    leases.cancel(session, sweep, reason=Reason.USER_CANCELLED, message=message, actor=actor)
    if sweep.state == JobState.CANCELLING:
        _cancel_trials(session, sweep)
    return sweep


def complete_sweep(
    session: Session, lease: Lease, state: JobState, *, reason: str, message: str, retryable: bool
) -> SweepRow:
    """End the attempt and, unless it is to be tried again, the sweep. Repeating it changes nothing.

    SUCCEEDED becomes FAILED with NO_TRIAL_SUCCEEDED when no trial did. Raises `Aborted` for an old lease,
    `FailedPrecondition` for SUCCEEDED while trials run, or CANCELLED when nobody asked for it.
    """
    sweep = leases.lock_job(session, SweepRow, lease.job_id)
    if has_ended_so(session, sweep.id, lease, state):
        return sweep
    sweep = leases.check(session, SweepRow, lease)
    if state == JobState.CANCELLED:
        confirm_cancelled(session, sweep, message)
    elif state == JobState.FAILED:
        leases.fail_attempt(session, sweep, retryable=retryable, reason=reason, message=message)
    else:
        _succeed(session, sweep, reason, message)
    return sweep


def _succeed(session: Session, sweep: SweepRow, reason: str, message: str) -> None:
    trials = trials_of(session, sweep.id)
    unfinished = [trial.id for trial in trials if trial.state not in TERMINAL]
    if unfinished:
        raise FailedPrecondition(
            f"{sweep.id} cannot succeed yet: {len(unfinished)} trials run, the first is {unfinished[0]}"
        )
    leases.end_attempt(session, sweep, "succeeded", reason=reason, message=message)
    if any(trial.state == JobState.SUCCEEDED for trial in trials):
        to = JobState.SUCCEEDED
    else:
        to, reason = JobState.FAILED, Reason.NO_TRIAL_SUCCEEDED
        message = message or f"none of {len(trials)} trials succeeded"
    transition(session, sweep, to, reason=reason, message=message, actor=sweep.worker_id, attempt=sweep.epoch)


def _cancel_trials(session: Session, sweep: SweepRow) -> None:
    """Cancel the run, or the pending evaluation, of every trial that has not ended."""

    def cancel(job: JobColumns) -> None:
        message = f"sweep {sweep.id} has ended"
        leases.cancel(session, job, reason=Reason.PARENT_CANCELLED, message=message, actor=sweep.id)

    for trial in trials_of(session, sweep.id):
        if trial.state in TERMINAL:
            continue
        run = leases.lock_job(session, RunRow, trial.run_id)
        cancel(run)
        for evaluation_id in run.evaluation_ids:
            cancel(leases.lock_job(session, EvaluationRow, evaluation_id))


@jobs.announce.register
def _announce(job: SweepRow, session: Session, transition: TransitionRow) -> None:
    message = sweep_message(job, summaries(session, [job])[job.id])
    what = "created" if transition.to_state == JobState.QUEUED else transition.to_state.lower()
    event = events_pb2.SweepEvent(sweep=message, transition=transition_message(transition))
    emit_fact(session, "sweep", what, job.id, event)


@jobs.send_command.register
def _send_command(job: SweepRow, session: Session) -> None:
    emit_command(session, COMMAND_SUBJECT, events_pb2.TuneCommand(sweep_id=job.id), resource_id=job.id)


@jobs.job_ended.register
def _ended(job: SweepRow, session: Session) -> None:
    _cancel_trials(session, job)
