"""Sweeps: creating, pausing, extending, cancelling and completing them, and what they show of their trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import FailedPrecondition, NotFound, Violations
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.commits import notify_on_commit
from tunix_rt.registry.kernel.job_tables import JobColumns, TransitionRow
from tunix_rt.registry.kernel.leases import JobProgress, Lease
from tunix_rt.registry.kernel.outbox import emit_command, emit_fact
from tunix_rt.registry.kernel.rows import check_etag, new_id, utc_now
from tunix_rt.registry.kernel.states import (
    TERMINAL,
    JobState,
    Reason,
    begin_to_wait,
    is_terminal,
    record_creation,
    transition,
)
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.sweeps.messages import TrialSummary, progress_of, sweep_message
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow, spec_columns, sweep_spec, trial_count
from tunix_rt.registry.sweeps.trials import trials_of
from tunix_rt.search_space.messages import space_of
from tunix_rt.search_space.space import MAX_TRIALS
from tunix_rt.v1 import sweeps_pb2 as pb

_OPEN: Final = (JobState.QUEUED, JobState.RUNNING)
_STOPPED: Final = "stopped early"


def new_sweep(spec: pb.SweepSpec, *, display_name: str, tags: Mapping[str, str], actor: str) -> SweepRow:
    """The row of a sweep with that resolved spec, neither stored nor numbered."""
    return SweepRow(
        id="",
        display_name=display_name,
        tags=dict(tags),
        create_time=utc_now(),
        created_by=actor,
        **spec_columns(spec),
    )


def create_sweep(session: Session, sweep: SweepRow) -> SweepRow:
    """Store a new sweep and send its command."""
    sweep.id = new_id("sweep")
    record_creation(session, sweep, actor=sweep.created_by)
    emit_command(session, sweep)
    return sweep


def get_sweep(session: Session, sweep_id: str) -> SweepRow:
    """The sweep; raises `NotFound`."""
    sweep = session.get(SweepRow, sweep_id)
    if sweep is None:
        raise NotFound(f"there is no sweep {sweep_id!r}")
    return sweep


def sweep_with_trials(session: Session, sweep: SweepRow) -> pb.Sweep:
    """The sweep as clients see it."""
    return sweeps_with_trials(session, [sweep])[0]


def sweeps_with_trials(session: Session, sweeps: Sequence[SweepRow]) -> list[pb.Sweep]:
    """As `sweep_with_trials`, of many."""
    of_trials = summaries(session, sweeps)
    return [sweep_message(sweep, of_trials[sweep.id]) for sweep in sweeps]


def summaries(session: Session, sweeps: Iterable[SweepRow]) -> dict[str, TrialSummary]:
    """What each sweep shows of its trials, by sweep id; of trials with the best objective the first is the best."""
    modes = {sweep.id: sweep_spec(sweep).objective.mode for sweep in sweeps}
    counts: dict[str, dict[str, int]] = {sweep_id: {} for sweep_id in modes}
    kinds = (col(TrialRow.sweep_id), col(TrialRow.state), col(TrialRow.reason))
    found = session.execute(select(*kinds, func.count()).where(col(TrialRow.sweep_id).in_(modes)).group_by(*kinds))
    for sweep_id, state, reason, count in found:
        kind = _STOPPED if (state, reason) == (JobState.CANCELLED, Reason.EARLY_STOPPED) else state
        counts[sweep_id][kind] = counts[sweep_id].get(kind, 0) + count
    return {
        sweep_id: TrialSummary(
            total=sum(of_state.values()),
            succeeded=of_state.get(JobState.SUCCEEDED, 0),
            failed=of_state.get(JobState.FAILED, 0),
            stopped=of_state.get(_STOPPED, 0),
            best_trial_id=_best_trial(session, sweep_id, modes[sweep_id]) if JobState.SUCCEEDED in of_state else "",
        )
        for sweep_id, of_state in counts.items()
    }


def _best_trial(session: Session, sweep_id: str, mode: int) -> str:
    objective = col(TrialRow.objective)
    best = session.scalars(
        select(col(TrialRow.id))
        .where(
            col(TrialRow.sweep_id) == sweep_id, col(TrialRow.state) == JobState.SUCCEEDED.value, objective.is_not(None)
        )
        .order_by(objective.asc() if mode == pb.OBJECTIVE_MODE_MIN else objective.desc(), col(TrialRow.number))
        .limit(1)
    ).first()
    return best or ""


def cancel_sweep(session: Session, sweep_id: str, *, message: str, actor: str) -> SweepRow:
    """Ask the sweep and every trial that has not ended to end; one that has ended stays as it is. Raises `NotFound`."""
    sweep = leases.lock_job(session, SweepRow, sweep_id)
    leases.cancel(session, sweep, reason=Reason.USER_CANCELLED, message=message, actor=actor)
    if sweep.state == JobState.CANCELLING:
        cancel_trials(session, sweep)
    return sweep


def retry_sweep(session: Session, sweep_id: str, *, given_etag: str, message: str, actor: str) -> SweepRow:
    """Queue a sweep that has ended without success once more, with the trials that it has. Raises `NotFound`, `Aborted`
    for a stale etag, and `FailedPrecondition` for a sweep in another state, and for one whose trials have all begun."""
    sweep = leases.lock_job(session, SweepRow, sweep_id)
    check_etag(given_etag, sweep)
    begun = sum(not trial.origin for trial in trials_of(session, sweep.id))
    if is_terminal(sweep) and begun >= trial_count(sweep):
        raise FailedPrecondition(f"{sweep.id} has begun all of its {begun} trials: extend it to try more")
    leases.retry(session, sweep, message=message, actor=actor)
    sweep.paused = False
    return sweep


def heartbeat_sweep(
    session: Session, lease: Lease, *, progress: JobProgress | None, ttl: timedelta, resumed_step: int
) -> tuple[SweepRow, Lease]:
    """Extend the lease. Progress is counted, whatever is reported; none of the failures before it counts any more."""
    sweep = leases.check(session, SweepRow, lease)
    before = sweep.progress_done
    counted = progress_of(sweep, summaries(session, [sweep])[sweep.id])
    sweep, extended = leases.heartbeat(session, SweepRow, lease, progress=counted, ttl=ttl, resumed_step=resumed_step)
    if sweep.progress_done > before:
        sweep.failures = 0
        session.add(sweep)
    return sweep, extended


def succeed(session: Session, sweep: SweepRow, num_samples: int, end: leases.End) -> None:
    """End the sweep, whose trials have all ended: FAILED with NO_TRIAL_SUCCEEDED when none succeeded.

    A sweep of ``num_samples`` that was extended meanwhile waits for a tuner again; no attempt has failed. Raises
    `FailedPrecondition` while trials run or have yet to begin. The caller holds the lease.
    """
    trials = trials_of(session, sweep.id)
    unfinished = [trial.id for trial in trials if trial.state not in TERMINAL]
    if unfinished:
        raise FailedPrecondition(
            f"{sweep.id} cannot succeed yet: {len(unfinished)} trials run, the first is {unfinished[0]}"
        )
    # Those that replace others of their population come on top.
    wanted, begun = trial_count(sweep), sum(not trial.origin for trial in trials)
    if begun < wanted:
        if sweep_spec(sweep).num_samples > num_samples:
            leases.hand_back(session, sweep, message="the sweep was extended when its last trial had ended")
            return
        raise FailedPrecondition(f"{sweep.id} cannot succeed yet: it has {begun} of {wanted} trials")
    holder = leases.holder_of(session, sweep)
    leases.end_attempt(session, sweep, "succeeded", reason=end.reason, message=end.message)
    to, reason, message = JobState.SUCCEEDED, end.reason, end.message
    if not any(trial.state == JobState.SUCCEEDED for trial in trials):
        to, reason = JobState.FAILED, Reason.NO_TRIAL_SUCCEEDED
        message = message or f"none of {len(trials)} trials succeeded"
    transition(session, sweep, to, reason=reason, message=message, actor=holder, attempt=sweep.epoch)


def cancel_trials(session: Session, sweep: SweepRow) -> None:
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


def pause_sweep(session: Session, sweep_id: str) -> SweepRow:
    """No more trials begin, and its tuner is directed to release the attempt; a paused sweep stays as it is.

    Raises `NotFound`, and `FailedPrecondition` for one that has ended or is being cancelled.
    """
    sweep = _open_sweep(session, sweep_id, "paused")
    if not sweep.paused:
        sweep.paused = True
        _changed(session, sweep, "paused")
    return sweep


def resume_sweep(session: Session, sweep_id: str) -> SweepRow:
    """A paused sweep waits for a tuner again; another stays as it is. Raises as `pause_sweep` does."""
    sweep = _open_sweep(session, sweep_id, "resumed")
    if sweep.paused:
        sweep.paused = False
        begin_to_wait(sweep)
        _changed(session, sweep, "resumed")
        if sweep.lease_attempt_id is None:
            emit_command(session, sweep)
    return sweep


def extend_sweep(session: Session, sweep_id: str, num_samples: int, *, actor: str) -> SweepRow:
    """Ask for more trials. A sweep that has SUCCEEDED or FAILED is queued again with what it knows.

    Raises `NotFound`, `InvalidInput` unless there are more samples than before and trials not too many, and
    `FailedPrecondition` for a sweep that was, or is being, cancelled.
    """
    sweep = leases.lock_job(session, SweepRow, sweep_id)
    if sweep.state in (JobState.CANCELLING, JobState.CANCELLED):
        raise FailedPrecondition(f"{sweep.id} is {sweep.state} and cannot be extended")
    spec = pb.SweepSpec()
    spec.CopyFrom(sweep_spec(sweep))
    violations = Violations()
    violations.check(num_samples > spec.num_samples, "num_samples", f"must be more than {spec.num_samples}, as before")
    violations.check(
        spec.scheduler != pb.TRIAL_SCHEDULER_PBT, "num_samples", "a population cannot grow: its members train together"
    )
    spec.num_samples = max(num_samples, 0)
    count = space_of(spec).trial_count
    violations.check(
        count <= MAX_TRIALS, "num_samples", f"the sweep would have {count} trials, at most {MAX_TRIALS} are allowed"
    )
    violations.raise_if_any()
    sweep.spec = spec_columns(spec)["spec"]
    if is_terminal(sweep):
        sweep.paused = False
        transition(session, sweep, JobState.QUEUED, actor=actor)
        emit_command(session, sweep)
    else:
        _changed(session, sweep, "extended")
    return sweep


def _open_sweep(session: Session, sweep_id: str, what: str) -> SweepRow:
    sweep = leases.lock_job(session, SweepRow, sweep_id)
    if sweep.state not in _OPEN:
        raise FailedPrecondition(f"{sweep.id} is {sweep.state} and cannot be {what}")
    return sweep


def _changed(session: Session, sweep: SweepRow, what: str) -> None:
    sweep.revision += 1
    session.add(sweep)
    session.flush()
    notify_on_commit(session, sweep.id)
    emit_fact(session, sweep, what)


def fact_of(transition: TransitionRow) -> str:
    """The name of the transition's fact: a sweep that is queued again was extended, unless it was retried."""
    if transition.to_state != JobState.QUEUED:
        return transition.to_state.lower()
    if not transition.from_state:
        return "created"
    return "retried" if transition.reason == Reason.RETRIED else "extended"
