"""Limits on what grows by itself: each function deletes one small batch, and says how many rows have gone.

Batches are small because SQLite has one writer: nobody waits for one longer than some milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import CursorResult, delete, or_, select, tuple_, update
from sqlalchemy.orm import Session, aliased
from sqlmodel import col

from tunix_rt.registry.kernel.idempotency import RequestRow
from tunix_rt.registry.kernel.outbox import FACT, OutboxRow
from tunix_rt.registry.kernel.resources import claimed_tables
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.states import TERMINAL
from tunix_rt.registry.retention.kinds import MODEL
from tunix_rt.registry.retention.tables import TombstoneRow
from tunix_rt.registry.runs.tables import LogRow, MetricRow

BATCH: Final = 250
_POINTS: Final = 2000
_TERMINAL: Final = [str(state) for state in TERMINAL]
# Nothing will be done with the event any more.
_DONE: Final = or_(col(OutboxRow.published_time).is_not(None), col(OutboxRow.publish_error) != "").label("done")


def delete_requests(session: Session, kept: timedelta, now: datetime | None = None) -> int:
    """Answers to request ids: a repeat is carried out again then."""
    due = select(col(RequestRow.project), col(RequestRow.method), col(RequestRow.request_id)).where(
        col(RequestRow.create_time) < (now or utc_now()) - kept
    )
    key = tuple_(col(RequestRow.project), col(RequestRow.method), col(RequestRow.request_id))
    return _deleted(session, delete(RequestRow).where(key.in_(due.limit(BATCH))))


def delete_facts(session: Session, kept: timedelta, now: datetime | None = None) -> int:
    """Published facts, but the newest: what the stream holds is compared with it."""
    before = (now or utc_now()) - kept
    facts = select(col(OutboxRow.sequence), col(OutboxRow.create_time), _DONE).where(col(OutboxRow.kind) == FACT)
    newest = session.execute(facts.order_by(col(OutboxRow.sequence).desc()).limit(1)).first()
    # Sequences follow time: only the beginning of the table is read.
    oldest = session.execute(facts.order_by(col(OutboxRow.sequence)).limit(BATCH)).all()
    gone = [row[0] for row in oldest if row.done and row.create_time < before and row != newest]
    return _delete_events(session, gone)


def delete_commands(session: Session, kept: timedelta, now: datetime | None = None) -> int:
    """Commands of jobs that have ended: those of others tell a dead letter that counts from one that does not."""
    due = (
        select(col(OutboxRow.sequence), col(OutboxRow.resource_id))
        # By their subjects, which have an index.
        .where(col(OutboxRow.subject) > "tunix.cmd.", col(OutboxRow.subject) < "tunix.cmd/")
        .where(col(OutboxRow.create_time) < (now or utc_now()) - kept, _DONE)
        .order_by(col(OutboxRow.sequence))
    )
    rows = session.execute(due.limit(BATCH)).all()
    open_jobs: set[str] = set()
    for table in claimed_tables(session):
        ids = select(col(table.id)).where(
            col(table.id).in_([job_id for _, job_id in rows]), col(table.state).not_in(_TERMINAL)
        )
        open_jobs.update(session.scalars(ids))
    return _delete_events(session, [sequence for sequence, job_id in rows if job_id not in open_jobs])


def delete_tombstones(session: Session, kept: timedelta, now: datetime | None = None) -> int:
    """What was deleted long ago; of each model name the highest version stays, which is not given again."""
    higher = aliased(TombstoneRow)
    last = (
        select(col(higher.id))
        .where(
            col(higher.project) == col(TombstoneRow.project),
            col(higher.kind) == col(TombstoneRow.kind),
            col(higher.name) == col(TombstoneRow.name),
            col(higher.version) > col(TombstoneRow.version),
        )
        .exists()
    )
    due = (
        select(col(TombstoneRow.id))
        .where(
            col(TombstoneRow.delete_time) < (now or utc_now()) - kept,
            col(TombstoneRow.unfinished).is_(False),
            or_(col(TombstoneRow.kind) != MODEL.name, last),
        )
        .order_by(col(TombstoneRow.delete_time))
    )
    return _deleted(session, delete(TombstoneRow).where(col(TombstoneRow.id).in_(due.limit(BATCH))))


def delete_points(session: Session, run_id: str) -> int:
    """Metric points of a run that was deleted."""
    due = select(col(MetricRow.key), col(MetricRow.step)).where(col(MetricRow.run_id) == run_id).limit(_POINTS)
    key = tuple_(col(MetricRow.key), col(MetricRow.step))
    return _deleted(session, delete(MetricRow).where(col(MetricRow.run_id) == run_id, key.in_(due)))


def delete_lines(session: Session, run_id: str) -> int:
    """Log lines of a run."""
    due = select(col(LogRow.attempt), col(LogRow.sequence)).where(col(LogRow.run_id) == run_id).limit(BATCH)
    key = tuple_(col(LogRow.attempt), col(LogRow.sequence))
    return _deleted(session, delete(LogRow).where(col(LogRow.run_id) == run_id, key.in_(due)))


def unfinished(session: Session) -> Sequence[str]:
    """Runs that were deleted and of which points, lines or files may still be there."""
    found = select(col(TombstoneRow.id)).where(col(TombstoneRow.unfinished).is_(True))
    return session.scalars(found.order_by(col(TombstoneRow.id)).limit(BATCH)).all()


def finish(session: Session, run_ids: Sequence[str]) -> None:
    """Nothing is left of them."""
    session.execute(update(TombstoneRow).where(col(TombstoneRow.id).in_(run_ids)).values(unfinished=False))


def _delete_events(session: Session, sequences: Sequence[int | None]) -> int:
    return _deleted(session, delete(OutboxRow).where(col(OutboxRow.sequence).in_(sequences))) if sequences else 0


def _deleted(session: Session, statement: Any) -> int:
    result = session.execute(statement, execution_options={"synchronize_session": False})
    assert isinstance(result, CursorResult)
    return int(result.rowcount)
