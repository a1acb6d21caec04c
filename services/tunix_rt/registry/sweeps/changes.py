"""What people change in a sweep that exists: it pauses, goes on, and grows."""

from __future__ import annotations

from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.errors import FailedPrecondition, Violations
from tunix_rt.registry.kernel import job_kinds as jobs
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.commits import notify_on_commit
from tunix_rt.registry.kernel.states import JobState, is_terminal, transition
from tunix_rt.registry.sweeps.rules import emit_sweep_fact
from tunix_rt.registry.sweeps.tables import SweepRow, spec_columns, sweep_spec
from tunix_rt.search_space.messages import space_of
from tunix_rt.search_space.space import MAX_TRIALS
from tunix_rt.v1 import sweeps_pb2 as pb

_OPEN: Final = (JobState.QUEUED, JobState.RUNNING)


def pause_sweep(session: Session, sweep_id: str) -> SweepRow:
    """No more trials begin, and its tuner is told to let go; a paused sweep stays as it is.

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
        _changed(session, sweep, "resumed")
        if sweep.lease_attempt_id is None:
            jobs.send_command(sweep, session)
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
        jobs.send_command(sweep, session)
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
    emit_sweep_fact(session, sweep, what)
