"""Ends or requeues jobs that have no live worker: expired leases, cancellations, deadlines of running and of waiting,
undeliverable commands.

Every job is checked again under its row lock, one transaction each: several registry processes may reap at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.bus.delivery import Delivery, Done
from tunix_rt.bus.topology import DLQ_SUBJECT
from tunix_rt.errors import NotFound, TunixError
from tunix_rt.observability.logs import get_logger
from tunix_rt.registry.jobs.kinds import kind_of, retry_command
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.kernel.lease_clock import lease_now
from tunix_rt.registry.kernel.outbox import is_newest_command
from tunix_rt.registry.kernel.resources import claimed_tables, job_of
from tunix_rt.registry.kernel.states import JobState, Reason, is_terminal, transition
from tunix_rt.registry.kernel.vitals import Vitals
from tunix_rt.registry.schema import write_as_it_is

_LIVE: Final = (JobState.QUEUED.value, JobState.RUNNING.value, JobState.CANCELLING.value)
# How long one step takes at most, each job of a round, and how late a step may begin, unless something stands still.
_ROUND_SECONDS: Final = 1.0
_SECONDS_PER_JOB: Final = 0.1
_LATE_SECONDS: Final = 2.0
_log = get_logger(__name__)


async def run_reaper(
    database: Database, every_seconds: float, ttl: timedelta, vitals: Vitals, stop: asyncio.Event
) -> None:
    """Reap until ``stop`` is set. Errors of one round are logged; the next round tries again."""
    stalls = _Stalls()
    while not stop.is_set():
        try:
            await database.run_write(write_as_it_is)
            vitals.wrote()
            if stalls.noticed():
                _log.warning("the registry or its database stood still: workers get a full term")
                await database.run_write(lambda session: extend_leases(session, ttl))
                stalls.forget()
            stalls.expect(_ROUND_SECONDS)
            changed = await database.run(lambda: reap(database))
            stalls.expect(every_seconds, _SECONDS_PER_JOB * changed)
        except TunixError as error:
            _log.warning("could not reap", error=str(error))
        try:
            async with asyncio.timeout(every_seconds):
                await stop.wait()
        except TimeoutError:
            continue


class _Stalls:
    """Notices that this process, or writes to its database, stood still: then heartbeats did, too."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._noticed = False
        self._expected = clock() + _ROUND_SECONDS

    def expect(self, seconds: float, allowed: float = 0.0) -> None:
        """What was expected is done, up to ``allowed`` seconds late; the next is, within ``seconds`` and a little."""
        now = self._clock()
        self._noticed |= now > self._expected + allowed
        self._expected = now + seconds + _LATE_SECONDS

    def noticed(self) -> bool:
        """Whether something was or is late."""
        self._noticed |= self._clock() > self._expected
        return self._noticed

    def forget(self) -> None:
        """What was late has had its consequence."""
        self._noticed, self._expected = False, self._clock() + _LATE_SECONDS


def reap(database: Database, now: datetime | None = None) -> int:
    """One round; returns how many jobs were changed."""
    changed = 0
    with database.read() as session:
        tables = claimed_tables(session)
    for table in tables:
        with database.read() as session:
            due = _due(session, table, now or lease_now())
        for job_id in due:
            changed += database.commit(partial(_reap_job, table=table, job_id=job_id, now=now))
    return changed


def extend_leases(session: Session, ttl: timedelta, now: datetime | None = None) -> None:
    """Give every holder of a lease a full term: the time that the registry was down does not count."""
    now = now or lease_now()
    for table in claimed_tables(session):
        held = update(table).where(col(table.lease_attempt_id).is_not(None), col(table.state).in_(_LIVE))
        session.execute(held.values(lease_expire_time=now + ttl))


class DeadCommands:
    """Fails the job of a command that was given up on, unless somebody works on it after all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def handle(self, delivery: Delivery) -> Done:
        """Idempotent: a job that has ended, or is leased, stays as it is. Raises `InvalidInput` for another message.

        A dead letter counts only for the newest command that the outbox has sent for the job: whoever can publish to
        the dead-letter subjects does not thereby end jobs.
        """
        job_id = delivery.text("job_id")
        subject = delivery.subject.removeprefix(f"{DLQ_SUBJECT}.")
        try:
            table = kind_of(job_id).table
            why = "no worker could carry out its command: `tunix-rt dlq list` says why, and "
            why += f"`{retry_command(job_id)}` has it tried again"
            await self._database.run_write(
                lambda session: (
                    is_newest_command(session, delivery.id, subject, job_id)
                    and fail_undeliverable(session, table, job_id, why)
                )
            )
        except NotFound:
            pass  # a command from another database, or published by hand
        return Done()


def fail_undeliverable(session: Session, table: type[JobColumns], job_id: str, why: str) -> bool:
    """Fail a job whose command could not be delivered, if it still waits for a worker; returns whether it was failed.

    A paused job gets a new command when it is resumed.
    """
    job = leases.lock_job(session, table, job_id)
    if is_terminal(job) or job.lease_attempt_id is not None or job_of(session, job).is_paused(job):
        return False
    if job.state == JobState.CANCELLING:
        return leases.expire(session, job)
    transition(session, job, JobState.FAILED, reason=Reason.UNDELIVERABLE, message=why)
    return True


def _due(session: Session, table: type[JobColumns], now: datetime) -> Sequence[str]:
    expired = and_(col(table.lease_attempt_id).is_not(None), col(table.lease_expire_time) <= now)
    abandoned = and_(col(table.state) == JobState.CANCELLING.value, col(table.lease_attempt_id).is_(None))
    late = and_(col(table.state) == JobState.RUNNING.value, col(table.deadline_time) <= now)
    unclaimed = and_(col(table.state) == JobState.QUEUED.value, col(table.queue_deadline_time) <= now)
    statement = select(col(table.id)).where(col(table.state).in_(_LIVE), or_(expired, abandoned, late, unclaimed))
    return session.scalars(statement.order_by(col(table.id))).all()


def _reap_job(session: Session, table: type[JobColumns], job_id: str, now: datetime | None) -> int:
    try:
        job = leases.lock_job(session, table, job_id)
    except NotFound:
        return 0
    changed = False
    is_late = job.deadline_time is not None and job.deadline_time <= (now or lease_now())
    if job.state == JobState.RUNNING and is_late:
        message = f"did not end within {job.deadline_seconds} s"
        leases.cancel(session, job, reason=Reason.DEADLINE, message=message, actor="registry", now=now)
        changed = True
    if _is_unclaimed(session, job, now or lease_now()):
        message = f"no worker claimed it within {job.queue_deadline_seconds} s"
        transition(session, job, JobState.FAILED, reason=Reason.QUEUE_DEADLINE, message=message, now=now)
    return int(leases.expire(session, job, now=now) or changed)


def _is_unclaimed(session: Session, job: JobColumns, now: datetime) -> bool:
    """Whether its queue deadline has passed. While it is paused nobody is to claim it."""
    waits = job.state == JobState.QUEUED and not job_of(session, job).is_paused(job)
    return waits and job.queue_deadline_time is not None and job.queue_deadline_time <= now
