"""Pools: what workers of one kind take jobs from, and which of them nobody serves.

A pool is served while a worker waits for its next command, or holds a lease on one of its jobs. Workers that wait do
not call the registry: JetStream knows of them (`bus.inventory`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import Field, col

from tunix_rt.errors import TunixError
from tunix_rt.observability import metrics
from tunix_rt.observability.logs import get_logger
from tunix_rt.registry.kernel.columns import UtcDateTime
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.lease_clock import lease_now
from tunix_rt.registry.kernel.messages import timestamp
from tunix_rt.registry.kernel.outbox import emit_fact
from tunix_rt.registry.kernel.projects import SHARED, SharedProjectColumns
from tunix_rt.registry.kernel.resources import claimed_tables, job_of
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import jobs_pb2 as pb

_REFRESH_SECONDS: Final = 2.0
_COMMANDS: Final = "tunix.cmd."
# A worker that is there is written down again after so long.
_WRITTEN_EVERY: Final = timedelta(seconds=30)
_KINDS: Final[Mapping[str, pb.JobKind.ValueType]] = {
    "train": pb.JOB_KIND_RUN,
    "evaluate": pb.JOB_KIND_EVALUATION,
    "tune": pb.JOB_KIND_SWEEP,
}
_JOBS: Final = {"evaluate": "evaluations", "tune": "sweeps"}
_WAITING: Final = (common_pb2.JOB_STATE_QUEUED, common_pb2.JOB_STATE_RUNNING)
_log = get_logger(__name__)


class PoolRow(SharedProjectColumns, table=True):
    """One pool. It is every project's."""

    __tablename__ = "pools"

    # Of its commands.
    subject: str = Field(primary_key=True)
    # When a worker was last seen; None: never.
    served_time: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # Set while jobs wait in it and nobody serves it.
    unserved_since: datetime | None = Field(default=None, sa_type=UtcDateTime)


def pool_message(row: PoolRow) -> pb.Pool:
    """The pool as clients see it."""
    verb, name = _parts(row.subject)
    return pb.Pool(
        kind=_KINDS.get(verb, pb.JOB_KIND_UNSPECIFIED),
        name=name,
        served_time=timestamp(row.served_time),
        unserved_since=timestamp(row.unserved_since),
        warning=_warning(row.subject, row.served_time) if row.unserved_since else "",
    )


class PoolWatch:
    """Notices, look by look, pools in which jobs wait for nobody, and who comes. One process at a time looks.

    ``patience_seconds`` is how long jobs must have been waiting in a pool, at every look, before it is said. Time is
    that of this process: it does not follow the machine's clock.
    """

    def __init__(self, patience_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience, self._clock = patience_seconds, clock
        # Since when jobs have been seen to wait for nobody, by subject.
        self._since: dict[str, float] = {}

    def look(self, session: Session, served: Collection[str], waiting: Collection[str]) -> None:
        """Subjects for whose commands a worker waits, and subjects of jobs that wait for a worker, as they are now."""
        now = self._clock()
        # Locked, so that a claim and a look do not both say that a worker has come.
        locked = select(PoolRow).order_by(col(PoolRow.subject)).with_for_update()
        rows = {row.subject: row for row in session.scalars(locked)}
        busy = {*served, *_leased(session)}
        for subject in sorted({*busy, *waiting, *rows}):
            row = rows.get(subject) or PoolRow(subject=subject, project=SHARED)
            session.add(row)
            if subject in busy:
                note_served(session, row)
            elif subject not in waiting:
                row.unserved_since = None
            unserved = subject in waiting and subject not in busy
            since = self._since.setdefault(subject, now) if unserved else self._since.pop(subject, now)
            if unserved and now - since >= self._patience and row.unserved_since is None:
                row.unserved_since = utc_now()
                _emit(session, row, "unserved")
            metrics.POOL_UNSERVED.labels(*_parts(subject)).set(unserved and row.unserved_since is not None)


class UnservedPools:
    """The pools that nobody serves, as `refresh` found them: what clients are warned of without another query."""

    def __init__(self) -> None:
        # By subject, when a worker was last seen. Replaced, never changed, so that threads may read it.
        self._served: Mapping[str, datetime | None] = {}

    def refresh(self, session: Session) -> None:
        """Read them again."""
        rows = session.scalars(select(PoolRow).where(col(PoolRow.unserved_since).is_not(None)))
        self._served = {row.subject: row.served_time for row in rows}

    def served(self, session: Session, subject: str) -> None:
        """A worker has claimed a job of the pool, in this transaction."""
        if subject not in self._served:
            return
        row = session.get(PoolRow, subject, with_for_update=True, populate_existing=True)
        if row is not None:
            note_served(session, row)
        self._served = {name: at for name, at in self._served.items() if name != subject}

    def warn(self, job: Any, subject: str) -> Any:
        """``job``, the message of one whose command is ``subject``, with a warning where it waits for nobody."""
        if subject in self._served and job.state in _WAITING:
            job.warning = _warning(subject, self._served[subject])
        return job


async def follow_pools(database: Database, pools: UnservedPools, stop: asyncio.Event) -> None:
    """Refresh ``pools`` every two seconds until ``stop`` is set: another process may be the one that looks."""
    while not stop.is_set():
        try:
            await database.run_read(pools.refresh)
        except TunixError as error:
            _log.warning("which pools are served is not known now", error=str(error))
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _REFRESH_SECONDS)


def note_served(session: Session, row: PoolRow) -> None:
    """A worker is there."""
    now = utc_now()
    if row.unserved_since is not None:
        row.unserved_since, row.served_time = None, now
        _emit(session, row, "served")
    elif row.served_time is None or abs(now - row.served_time) >= _WRITTEN_EVERY:
        row.served_time = now
    session.add(row)


def _emit(session: Session, row: PoolRow, what: str) -> None:
    verb, name = _parts(row.subject)
    session.add(row)
    session.flush()
    emit_fact(session, row, what, resource_id=name or verb)


def _leased(session: Session) -> set[str]:
    """Subjects of the commands of jobs that a worker holds."""
    found: set[str] = set()
    for table in claimed_tables(session):
        held = select(table).where(col(table.lease_attempt_id).is_not(None), col(table.lease_expire_time) > lease_now())
        for job in session.scalars(held):
            command = job_of(session, job).command
            assert command is not None
            found.add(command(job))
    return found


def _warning(subject: str, served: datetime | None) -> str:
    verb, name = _parts(subject)
    what = _JOBS.get(verb) or f"pool {name!r}"
    return f"no worker has served {what} {f'since {served:%Y-%m-%d %H:%M} UTC' if served else 'yet'}"


def _parts(subject: str) -> tuple[str, str]:
    """Verb and pool: ("train", "gpu") of "tunix.cmd.train.gpu"."""
    verb, _, name = subject.removeprefix(_COMMANDS).partition(".")
    return verb, name
