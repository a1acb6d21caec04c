"""Makes the streams agree with the tables, which decide: every waiting job has one command, and facts are complete.

JetStream may lose what it has acknowledged: by a purge, an older copy of its store, a power cut. So what it holds is
compared with what the tables say, and what is missing is published again; no loss is inferred from other signs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from sqlalchemy import ColumnElement, CursorResult, func, select, update
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry.kernel.commits import OUTBOX, notify_on_commit
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.kernel.outbox import COMMAND, FACT, OutboxRow, emit_command
from tunix_rt.registry.kernel.resources import claimed_tables, job_of
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.states import TERMINAL, JobState

_IDS_AT_ONCE: Final = 500
_PUBLISHED: Final = (col(OutboxRow.kind) == FACT, col(OutboxRow.published_time).is_not(None))
_WAITING: Final = (JobState.QUEUED.value, JobState.RUNNING.value)


class StoredCommand(Protocol):
    """As `bus.inventory.StoredCommand`."""

    @property
    def sequence(self) -> int: ...
    @property
    def subject(self) -> str: ...
    @property
    def job_id(self) -> str: ...
    @property
    def lost(self) -> bool: ...


@dataclass(frozen=True)
class FactRange:
    """How many facts there are, and the sequences of the first and the last; 0 without any."""

    count: int
    first: int
    last: int


@dataclass(frozen=True)
class Reconciled:
    """Jobs whose command was written to the outbox again, sequences of commands that nobody needs, and subjects of the
    commands of jobs that wait."""

    sent: int = 0
    surplus: tuple[int, ...] = ()
    waiting: frozenset[str] = frozenset()


def reconcile_commands(session: Session, stored: Sequence[StoredCommand]) -> Reconciled:
    """Compare ``stored``, which was read before this transaction began, with the jobs that wait for a worker.

    A waiting job gets a command unless one is stored or about to be published; so at most one waits for each. Surplus
    are second ones, those of jobs that have ended, are unknown or wait elsewhere, and lost ones of waiting jobs.
    Call it where nothing is published meanwhile: in the relay. Commands that name no job are left to the workers.
    """
    subjects, surplus, newest = _waiting(session), set[int](), dict[str, int]()
    live = [command for command in stored if command.job_id]
    for command in live:
        if subjects.get(command.job_id) == command.subject:
            if command.lost:
                surplus.add(command.sequence)
                continue
            surplus.update({newest[command.job_id]} if command.job_id in newest else ())
            newest[command.job_id] = command.sequence
    others = [command for command in live if subjects.get(command.job_id) != command.subject]
    needed = _not_ended(session, {command.job_id for command in others if command.job_id not in subjects})
    surplus.update(command.sequence for command in others if command.job_id not in needed)
    missing = [job_id for job_id in subjects if job_id not in newest]
    return Reconciled(_send_again(session, missing), tuple(sorted(surplus)), frozenset(subjects.values()))


def reconcile_facts(session: Session, newest: str | None, kept: timedelta, now: datetime | None = None) -> int:
    """Publish again what was published after ``newest``, the event id of the last fact that the stream holds; returns
    how many. None: the stream is empty, and all facts younger than ``kept`` are due, which is how long it keeps them.

    An id that the outbox does not know changes nothing: the stream is ahead of the database, or another one's.
    """
    last, _ = newest_published(session)
    if not last:
        return 0
    lost = update(OutboxRow).where(*_PUBLISHED).values(published_time=None)
    if newest is None:
        lost = lost.where(col(OutboxRow.create_time) > (now or utc_now()) - kept)
    else:
        held = session.scalar(select(col(OutboxRow.sequence)).where(col(OutboxRow.id) == newest))
        if held is None or held >= last:
            return 0
        lost = lost.where(col(OutboxRow.sequence) > held)
    return _changed(session.execute(lost))


def newest_published(session: Session) -> tuple[int, str]:
    """Sequence and event id of the newest fact that was published; 0 and "" before the first."""
    facts = select(OutboxRow).where(*_PUBLISHED, col(OutboxRow.publish_error) == "")
    found = session.scalars(facts.order_by(col(OutboxRow.sequence).desc()).limit(1)).first()
    return (0, "") if found is None else (found.sequence or 0, found.id)


def facts_in(session: Session, *bounds: ColumnElement[bool]) -> FactRange:
    """The facts within ``bounds`` that were published."""
    sequence = col(OutboxRow.sequence)
    row = session.execute(
        select(func.count(), func.min(sequence), func.max(sequence)).where(*_PUBLISHED, *bounds)
    ).one()
    return FactRange(row[0], row[1] or 0, row[2] or 0)


def publish_again(session: Session, *bounds: ColumnElement[bool]) -> None:
    """Have the facts within ``bounds`` that were published published once more, before those that never were."""
    session.execute(update(OutboxRow).where(*_PUBLISHED, *bounds).values(published_time=None))
    notify_on_commit(session, OUTBOX)


def _waiting(session: Session) -> dict[str, str]:
    """The subject of the command of every job that nobody works on, by id, oldest first. An expired lease is not among
    them: the reaper ends it, and sends the command."""
    found: dict[str, str] = {}
    for table in claimed_tables(session):
        jobs = select(table).where(col(table.state).in_(_WAITING), col(table.lease_attempt_id).is_(None))
        for job in session.scalars(jobs.order_by(col(table.create_time), col(table.id))):
            kind = job_of(session, job)
            assert kind.command is not None
            if not kind.is_paused(job):
                found[job.id] = kind.command(job)
    return found


def _not_ended(session: Session, job_ids: Collection[str]) -> set[str]:
    found: set[str] = set()
    for table in claimed_tables(session):
        for ids in _some(sorted(job_ids)):
            open_jobs = select(col(table.id)).where(col(table.id).in_(ids), col(table.state).not_in(TERMINAL))
            found.update(session.scalars(open_jobs))
    return found


def _send_again(session: Session, job_ids: Sequence[str]) -> int:
    count = 0
    for ids in _some(job_ids):
        due = _about_to_be_published(session, ids)
        for table in claimed_tables(session):
            for job in _jobs(session, table, [job_id for job_id in ids if job_id not in due]):
                emit_command(session, job)
                count += 1
    return count


def _about_to_be_published(session: Session, job_ids: Sequence[str]) -> set[str]:
    """Jobs with a command that waits in the outbox, or that can never be published: another would fare alike."""
    commands = select(col(OutboxRow.resource_id)).where(
        col(OutboxRow.resource_id).in_(job_ids),
        col(OutboxRow.kind) == COMMAND,
        (col(OutboxRow.published_time).is_(None)) | (col(OutboxRow.publish_error) != ""),
    )
    return set(session.scalars(commands))


def _jobs(session: Session, table: type[JobColumns], ids: Sequence[str]) -> Sequence[JobColumns]:
    rows = session.scalars(select(table).where(col(table.id).in_(ids)))
    return sorted(rows, key=lambda job: (job.create_time, job.id))


def _some(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]


def _changed(result: Any) -> int:
    assert isinstance(result, CursorResult)
    return int(result.rowcount)
