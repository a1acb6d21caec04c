"""Leases: who may write to a job. Each claim makes an attempt with the next epoch; writes with an old one are refused.

Knowing a job's ids, which everybody may read, is not enough to write to it (`lease_credentials`). When a lease ends is
a matter of `lease_clock`; the times in history are the machine's.

Works on any job table. Check and write are one act in the caller's transaction. ``now`` is both times, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy.orm import Session
from sqlmodel import col, select

from tunix_rt.errors import Aborted, FailedPrecondition, NotFound
from tunix_rt.registry.kernel.commits import notify_on_commit
from tunix_rt.registry.kernel.job_tables import AttemptRow, JobColumns
from tunix_rt.registry.kernel.lease_clock import lease_now
from tunix_rt.registry.kernel.lease_credentials import Lease as Lease
from tunix_rt.registry.kernel.lease_credentials import belongs_to_sender, new_secret, secret_hash
from tunix_rt.registry.kernel.outbox import emit_command
from tunix_rt.registry.kernel.projects import work_in
from tunix_rt.registry.kernel.resources import job_of
from tunix_rt.registry.kernel.rows import new_id, utc_now
from tunix_rt.registry.kernel.states import JobState, Reason, is_terminal, transition

J = TypeVar("J", bound=JobColumns)


@dataclass(frozen=True)
class Claim:
    """Answer to a claim. Without a lease: ask again after ``retry_after_seconds``, or, when that is 0, never."""

    lease: Lease | None
    retry_after_seconds: float = 0.0

    @property
    def granted(self) -> bool:
        """Whether the caller holds the lease now."""
        return self.lease is not None


@dataclass(frozen=True)
class JobProgress:
    """How far a job has come."""

    done: int
    total: int
    unit: str
    stage: str


@dataclass(frozen=True)
class End:
    """How an attempt ended, as its worker reports it."""

    state: JobState
    reason: str = Reason.NONE
    message: str = ""
    retryable: bool = False


def lock_job(session: Session, table: type[J], job_id: str) -> J:
    """The job's row, locked until the transaction ends (SQLite: the whole database is). The session works in the job's
    project from now on. Raises `NotFound`."""
    statement = select(table).where(col(table.id) == job_id).with_for_update().execution_options(populate_existing=True)
    job = session.execute(statement).scalars().first()
    if job is None:
        raise NotFound(f"{table.__tablename__} hold no {job_id!r}")
    work_in(session, job.project)
    return job


def claim(
    session: Session,
    table: type[J],
    job_id: str,
    *,
    principal: str,
    worker_id: str,
    environment: Mapping[str, str],
    ttl: timedelta,
    now: datetime | None = None,
) -> tuple[J, Claim]:
    """Try to take the lease of a job: (the job, the answer).

    ``principal`` claims; ``worker_id`` is only what the worker calls itself. The lease in the answer has its secret.

    A live lease is never taken over, not even by its own holder. An expired one makes its attempt "lost" first, which
    may end the job when it had no attempts left. A job that waits for its cancellation is ended here. A paused one is
    granted to nobody.
    """
    steady, seen = now or lease_now(), now or utc_now()
    job = lock_job(session, table, job_id)
    if lease_is_live(job, steady):
        assert job.lease_expire_time is not None
        remaining = (job.lease_expire_time - steady).total_seconds()
        return job, Claim(None, max(0.1, min(remaining, ttl.total_seconds())))
    expire(session, job, now=now, resend=False)
    if is_terminal(job) or _is_paused(session, job):
        return job, Claim(None)
    job.epoch += 1
    job.attempts += 1
    secret = new_secret()
    attempt = AttemptRow(
        id=new_id("att"),
        job_id=job.id,
        number=job.epoch,
        worker_id=worker_id,
        start_time=seen,
        heartbeat_time=seen,
        environment=dict(environment),
        principal=principal,
        secret_hash=secret_hash(secret),
    )
    session.add(attempt)
    job.lease_attempt_id = attempt.id
    job.lease_expire_time = steady + ttl
    job.worker_id = worker_id
    session.add(job)
    session.flush()
    notify_on_commit(session, job.id)
    if job.state == JobState.QUEUED:
        transition(session, job, JobState.RUNNING, actor=principal, attempt=job.epoch, now=now)
    return job, Claim(replace(_lease_of(job), secret=secret, principal=principal))


def check(session: Session, table: type[J], lease: Lease) -> J:
    """The locked job, when ``lease`` is the newest one and its sender's own; raises `Aborted` otherwise.

    An expired lease that nobody took over yet still counts: its holder is alive, and there is no other writer.
    """
    job = lock_job(session, table, lease.job_id)
    _check_held(session, job, lease)
    return job


def check_unlocked(session: Session, table: type[J], lease: Lease) -> None:
    """As `check`, of what is stored now: whoever writes checks again."""
    job = session.get(table, lease.job_id)
    if job is None:
        raise NotFound(f"{table.__tablename__} hold no {lease.job_id!r}")
    _check_held(session, job, lease)


def _check_held(session: Session, job: JobColumns, lease: Lease) -> None:
    if job.lease_attempt_id != lease.attempt_id or job.epoch != lease.epoch:
        raise Aborted(
            f"attempt {lease.attempt_id} (epoch {lease.epoch}) no longer holds {job.id}, which is {job.state} "
            f"at epoch {job.epoch}: stop working on it"
        )
    if not belongs_to_sender(session.get_one(AttemptRow, lease.attempt_id), lease):
        raise Aborted(
            f"attempt {lease.attempt_id} of {job.id} belongs to another worker: the lease's secret is wrong, or "
            f"another principal than {lease.principal!r} has claimed it"
        )


def holder_of(session: Session, job: JobColumns) -> str:
    """The principal that holds the job's lease; "registry" where nobody does."""
    if job.lease_attempt_id is None:
        return "registry"
    return session.get_one(AttemptRow, job.lease_attempt_id).principal


def heartbeat(
    session: Session,
    table: type[J],
    lease: Lease,
    *,
    progress: JobProgress | None,
    ttl: timedelta,
    resumed_step: int = 0,
    now: datetime | None = None,
) -> tuple[J, Lease]:
    """Extend the lease by ``ttl`` from now and store what is reported: (the job, the extended lease)."""
    job = check(session, table, lease)
    job.lease_expire_time = (now or lease_now()) + ttl
    attempt = session.get_one(AttemptRow, lease.attempt_id)
    attempt.heartbeat_time = now or utc_now()
    if resumed_step:
        attempt.resumed_step = resumed_step
    if progress is not None:
        new = (progress.done, progress.total, progress.unit, progress.stage)
        if new != (job.progress_done, job.progress_total, job.progress_unit, job.progress_stage):
            job.progress_done, job.progress_total, job.progress_unit, job.progress_stage = new
            notify_on_commit(session, job.id)
    session.add_all((job, attempt))
    session.flush()
    return job, _lease_of(job)


def end_attempt(
    session: Session,
    job: JobColumns,
    outcome: str,
    *,
    reason: str = Reason.NONE,
    message: str = "",
    now: datetime | None = None,
) -> AttemptRow | None:
    """Close the attempt that holds the lease and free the lease; None when nobody held it."""
    if job.lease_attempt_id is None:
        return None
    attempt = session.get_one(AttemptRow, job.lease_attempt_id)
    attempt.outcome = outcome
    attempt.reason = str(reason)
    attempt.message = message
    attempt.end_time = now or utc_now()
    job.lease_attempt_id = None
    job.lease_expire_time = None
    session.add_all((job, attempt))
    session.flush()
    notify_on_commit(session, job.id)
    return attempt


def complete(session: Session, table: type[J], lease: Lease, end: End, succeed: Callable[[J], None]) -> J:
    """End the attempt and, unless it is to be tried again, the job; the same end again changes nothing.

    ``succeed`` ends attempt and job as SUCCEEDED; it may raise. Raises `Aborted` for an old lease, and
    `FailedPrecondition` for CANCELLED when nobody asked for it.
    """
    job = lock_job(session, table, lease.job_id)
    if _already_reported(session, lease, end.state):
        return job
    _check_held(session, job, lease)
    match end.state:
        case JobState.SUCCEEDED:
            succeed(job)
        case JobState.CANCELLED:
            _confirm_cancelled(session, job, end.message)
        case _:
            fail_attempt(session, job, retryable=end.retryable, reason=end.reason, message=end.message)
    return job


def _already_reported(session: Session, lease: Lease, state: JobState) -> bool:
    """Whether this very attempt has reported this end before (its answer was lost on the way)."""
    attempt = session.get(AttemptRow, lease.attempt_id)
    return (
        attempt is not None
        and attempt.job_id == lease.job_id
        and attempt.number == lease.epoch
        and attempt.outcome == state.value.lower()
        and belongs_to_sender(attempt, lease)
    )


def _confirm_cancelled(session: Session, job: JobColumns, message: str) -> None:
    """The worker has stopped because it was asked to. Raises `FailedPrecondition` when it was not."""
    if job.state != JobState.CANCELLING:
        raise FailedPrecondition(
            f"{job.id} is {job.state}: nobody asked to cancel it; release or fail the attempt instead"
        )
    attempt = end_attempt(session, job, "cancelled", reason=job.cancel_reason, message=message)
    transition(
        session,
        job,
        JobState.CANCELLED,
        reason=job.cancel_reason,
        message=job.cancel_message or message,
        actor=attempt.principal if attempt else "registry",
        attempt=attempt.number if attempt else 0,
    )


def release(session: Session, table: type[J], lease: Lease, *, message: str = "", now: datetime | None = None) -> J:
    """Hand the job back: not counted as a failure, and sent to the next worker at once."""
    job = check(session, table, lease)
    hand_back(session, job, message=message, now=now)
    return job


def hand_back(session: Session, job: JobColumns, *, message: str, now: datetime | None = None) -> None:
    """`release` of a job whose lease has been checked."""
    end_attempt(session, job, "released", message=message, now=now)
    _continue_without_lease(session, job, now=now, resend=True)


def fail_attempt(
    session: Session, job: JobColumns, *, retryable: bool, reason: str, message: str, now: datetime | None = None
) -> None:
    """A worker's report that the attempt failed: tried again while attempts are left, else the job is FAILED."""
    attempt = end_attempt(session, job, "failed", reason=reason, message=message, now=now)
    if not (retryable and _is_paused(session, job)):
        job.failures += 1
    if retryable and job.state != JobState.CANCELLING and job.failures < job.max_attempts:
        _continue_without_lease(session, job, now=now, resend=True)
        return
    transition(
        session,
        job,
        JobState.FAILED,
        reason=reason or Reason.INTERNAL,
        message=message,
        actor=attempt.principal if attempt else "registry",
        attempt=job.epoch,
        now=now,
    )


def expire(session: Session, job: JobColumns, *, now: datetime | None = None, resend: bool = True) -> bool:
    """Take an expired lease away from a locked job; returns whether anything changed.

    The attempt is "lost" and counts as a failure, unless the job is paused. Then the job waits for the next worker (its
    command is sent again when ``resend``), or is FAILED when it has no attempts left, or CANCELLED when that was asked
    for.
    """
    if is_terminal(job) or lease_is_live(job, now or lease_now()):
        return False
    lost = end_attempt(session, job, "lost", reason=Reason.WORKER_LOST, message="no heartbeat in time", now=now)
    if lost is not None and not _is_paused(session, job):
        job.failures += 1
    if lost is None and job.state != JobState.CANCELLING and job.failures < job.max_attempts:
        return False
    _continue_without_lease(session, job, now=now, resend=resend)
    return True


def _continue_without_lease(session: Session, job: JobColumns, *, now: datetime | None, resend: bool) -> None:
    """What becomes of a job whose attempt has just ended without a result."""
    session.add(job)
    if job.state == JobState.CANCELLING:
        transition(
            session,
            job,
            JobState.CANCELLED,
            reason=job.cancel_reason,
            message=job.cancel_message,
            attempt=job.epoch,
            now=now,
        )
    elif job.failures >= job.max_attempts:
        message = f"the worker was lost {job.failures} times (max_attempts is {job.max_attempts})"
        transition(
            session, job, JobState.FAILED, reason=Reason.WORKER_LOST, message=message, attempt=job.epoch, now=now
        )
    elif resend and not _is_paused(session, job):
        emit_command(session, job)


def cancel(
    session: Session, job: JobColumns, *, reason: str, message: str, actor: str, now: datetime | None = None
) -> None:
    """Ask a locked job to end. Without a live lease it ends at once; a job that has ended stays as it is."""
    if is_terminal(job) or job.state == JobState.CANCELLING:
        return
    job.cancel_reason = str(reason)
    job.cancel_message = message
    transition(
        session, job, JobState.CANCELLING, reason=reason, message=message, actor=actor, attempt=job.epoch, now=now
    )
    if job.lease_attempt_id is None:
        transition(
            session, job, JobState.CANCELLED, reason=reason, message=message, actor=actor, attempt=job.epoch, now=now
        )


def retry(session: Session, job: JobColumns, *, message: str, actor: str) -> None:
    """Queue a locked job that has FAILED or was CANCELLED once more, and send its command. Raises `FailedPrecondition`
    for a job in another state."""
    if job.state not in (JobState.FAILED, JobState.CANCELLED):
        raise FailedPrecondition(f"{job.id} is {job.state}: only what has FAILED or was CANCELLED can be tried again")
    transition(session, job, JobState.QUEUED, reason=Reason.RETRIED, message=message, actor=actor)
    emit_command(session, job)


def lease_is_live(job: JobColumns, now: datetime) -> bool:
    """Whether somebody holds a lease that has not expired."""
    return job.lease_attempt_id is not None and job.lease_expire_time is not None and job.lease_expire_time > now


def _lease_of(job: JobColumns) -> Lease:
    assert job.lease_attempt_id is not None
    return Lease(job.id, job.lease_attempt_id, job.epoch, job.lease_expire_time)


def _is_paused(session: Session, job: JobColumns) -> bool:
    return job_of(session, job).is_paused(job)
