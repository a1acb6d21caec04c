"""The registry can rebuild the queue: commands of every job that waits for a worker, sent again from the tables."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import or_, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry.kernel.outbox import StreamRow, emit_command
from tunix_rt.registry.kernel.resources import claimed_tables, job_of
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.states import JobState

_STREAM: Final = "commands"


def requeue_all(session: Session, now: datetime | None = None, *, subject: str = "") -> int:
    """Send the command of every job that is not ended or paused, and that nobody works on; returns how many.

    ``subject`` restricts it to the commands of one subject.

    A worker that holds a lease needs no command; if it dies, the reaper sends one. Commands are idempotent: a job that
    is still queued in JetStream is claimed once.
    """
    now = now or utc_now()
    count = 0
    for table in claimed_tables(session):
        waiting = select(table).where(
            col(table.state).in_([JobState.QUEUED.value, JobState.RUNNING.value]),
            or_(col(table.lease_attempt_id).is_(None), col(table.lease_expire_time) <= now),
        )
        for job in session.scalars(waiting.order_by(col(table.create_time), col(table.id))).all():
            kind = job_of(session, job)
            assert kind.command is not None
            if not kind.is_paused(job) and subject in ("", kind.command(job)):
                emit_command(session, job)
                count += 1
    return count


def requeue_after_loss(session: Session, identity: str) -> int:
    """Requeue when the command stream is not the one seen last; returns how many jobs were sent again."""
    seen = session.get(StreamRow, _STREAM)
    if seen is not None and seen.created == identity:
        return 0
    # The first stream ever seen holds nothing yet, or what an earlier database sent: both are harmless to send again.
    seen = seen or StreamRow(name=_STREAM, created=identity, seen_time=utc_now())
    seen.created, seen.seen_time = identity, utc_now()
    session.add(seen)
    return requeue_all(session)
