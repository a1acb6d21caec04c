"""The state machine of every job: one table of what may follow what, and the only function that changes a state."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.errors import FailedPrecondition
from tunix_rt.registry.kernel.commits import notify_on_commit
from tunix_rt.registry.kernel.job_tables import JobColumns, TransitionRow
from tunix_rt.registry.kernel.lease_clock import lease_now
from tunix_rt.registry.kernel.outbox import emit_fact
from tunix_rt.registry.kernel.resources import job_of
from tunix_rt.registry.kernel.rows import utc_now


class JobState(StrEnum):
    """Names of ``tunix_rt.v1.JobState`` without their prefix."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Reason(StrEnum):
    """Names of ``tunix_rt.v1.Reason`` without their prefix; NONE is the unspecified one."""

    NONE = ""
    USER_CANCELLED = "USER_CANCELLED"
    WORKER_LOST = "WORKER_LOST"
    DIVERGED = "DIVERGED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    INVALID_ARTIFACT = "INVALID_ARTIFACT"
    DEADLINE = "DEADLINE"
    EARLY_STOPPED = "EARLY_STOPPED"
    INVALID_SPEC = "INVALID_SPEC"
    INTERNAL = "INTERNAL"
    PARENT_CANCELLED = "PARENT_CANCELLED"
    UNDELIVERABLE = "UNDELIVERABLE"
    NO_TRIAL_SUCCEEDED = "NO_TRIAL_SUCCEEDED"
    RESULT_REFUSED = "RESULT_REFUSED"
    QUEUE_DEADLINE = "QUEUE_DEADLINE"
    RETRIED = "RETRIED"


TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = {
    # FAILED: what it needs is missing, or its command could not be delivered.
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLING, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLING}),
    # SUCCEEDED, FAILED: it ended by itself before the worker heard of the cancellation.
    JobState.CANCELLING: frozenset({JobState.CANCELLED, JobState.SUCCEEDED, JobState.FAILED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
# Beside these, of jobs that can be reopened there (`resources.Job.reopens`): they wait for a worker again.
REOPENINGS: Final[Mapping[JobState, frozenset[JobState]]] = {
    # Of sweeps, which are extended.
    JobState.SUCCEEDED: frozenset({JobState.QUEUED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
}

TERMINAL: Final = frozenset(state for state, following in TRANSITIONS.items() if not following)


def is_terminal(job: JobColumns) -> bool:
    """Whether nothing can happen to the job any more."""
    return job.state in TERMINAL


def record_creation(session: Session, job: JobColumns, *, actor: str) -> TransitionRow:
    """Write the first row of a new QUEUED job's history and its "created" fact."""
    begin_to_wait(job)
    session.add(job)
    return _record(session, job, "", actor=actor, attempt=0, now=job.create_time)


def begin_to_wait(job: JobColumns, now: datetime | None = None) -> None:
    """The job is in its queue from now on: its queue deadline counts from here."""
    seconds = job.queue_deadline_seconds
    job.queue_deadline_time = (now or lease_now()) + timedelta(seconds=seconds) if seconds else None


def transition(
    session: Session,
    job: JobColumns,
    to: JobState,
    *,
    reason: str = Reason.NONE,
    message: str = "",
    actor: str = "registry",
    attempt: int = 0,
    now: datetime | None = None,
) -> TransitionRow:
    """Move ``job`` to ``to``, write the row and the fact, and call who follows (`resources.Job`).

    The caller holds the job's row lock. Raises `FailedPrecondition` for a move that `TRANSITIONS` and, where the job
    can be reopened, `REOPENINGS` do not hold. A job that is reopened has all its failures and time before it again.
    """
    steady, now = now or lease_now(), now or utc_now()
    came_from = JobState(job.state)
    reopened = to in REOPENINGS.get(came_from, ()) and came_from in job_of(session, job).reopens
    if to not in TRANSITIONS[came_from] and not reopened:
        raise FailedPrecondition(f"{job.id} is {came_from} and cannot become {to}")
    job.state = to.value
    job.reason = str(reason)
    job.message = message
    job.revision += 1
    if to == JobState.RUNNING:
        job.start_time = job.start_time or now
        if job.deadline_seconds:
            job.deadline_time = steady + timedelta(seconds=job.deadline_seconds)
    if reopened:
        job.end_time = job.deadline_time = None
        job.failures = 0
        job.cancel_reason = job.cancel_message = ""
        begin_to_wait(job, steady)
    if to in TERMINAL:
        job.end_time = now
        job.lease_attempt_id = None
        job.lease_expire_time = None
    row = _record(session, job, came_from.value, actor=actor, attempt=attempt, now=now)
    if to in TERMINAL:
        for follow in job_of(session, job).on_end:
            follow(session, job)
    return row


def _record(
    session: Session, job: JobColumns, came_from: str, *, actor: str, attempt: int, now: datetime
) -> TransitionRow:
    row = TransitionRow(
        job_id=job.id,
        from_state=came_from,
        to_state=job.state,
        reason=job.reason,
        message=job.message,
        attempt=attempt,
        actor=actor,
        create_time=now,
    )
    session.add(job)
    session.add(row)
    session.flush()
    notify_on_commit(session, job.id)
    kind = job_of(session, job)
    fact = kind.fact(row)
    if fact:
        emit_fact(session, job, fact, transition=row)
    for follow in kind.on_transition:
        follow(session, job)
    return row
