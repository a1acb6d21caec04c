"""Publishes the outbox in the order of commits, and makes the streams agree with the tables (`reconcile`).

One relay publishes at a time: on PostgreSQL an advisory lock elects it among registry processes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Final, Protocol

from sqlalchemy import Connection, select, text, true, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.bus.events import CloudEvent
from tunix_rt.bus.topology import FACT_SECONDS
from tunix_rt.errors import Exhausted, Transient, TunixError
from tunix_rt.observability import metrics
from tunix_rt.observability.logs import get_logger
from tunix_rt.registry.kernel.commits import OUTBOX
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.outbox import FACT, OutboxRow
from tunix_rt.registry.kernel.pools import PoolWatch
from tunix_rt.registry.kernel.reconcile import (
    Reconciled,
    StoredCommand,
    newest_published,
    reconcile_commands,
    reconcile_facts,
)
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.kernel.vitals import Vitals

SOURCE: Final = "/tunix-rt/registry"
_BATCH: Final = 100
_POLL_SECONDS: Final = 1.0
_STREAM_CHECK_SECONDS: Final = 2.0
RECONCILE_SECONDS: Final = 10.0
# More useless commands of one subject are not deleted one by one.
_MANY: Final = 500
_RELAY_LOCK: Final = 7_420_012
_log = get_logger(__name__)


class EventPublisher(Protocol):
    """`bus.publish.Publisher`, or anything that stores an event durably before it returns."""

    async def publish(self, event: CloudEvent) -> None:
        """Raises `Transient` when the event may not have been stored."""


class Streams(Protocol):
    """`bus.keeper.Topology`. Raises `Transient` when JetStream cannot be asked."""

    async def ensure(self) -> None:
        """Make what is missing of streams and consumers."""

    async def commands(self) -> Sequence[StoredCommand]:
        """Every command that is stored."""

    async def served(self, waiting: Collection[str]) -> Collection[str]:
        """Subjects for whose next command a worker waits, those of ``waiting`` included."""

    async def remove(self, sequences: Sequence[int]) -> None:
        """Delete commands."""

    async def purge(self, subject: str) -> None:
        """Delete all commands of ``subject``."""

    async def newest_fact(self) -> str | None:
        """Event id of the newest fact that is stored."""


class Relay:
    """The loop that empties the outbox, and every ten seconds makes ``streams`` agree with the tables. ``flooded``
    names subjects whose queue holds nothing but useless commands, ``pools`` notices what no worker serves."""

    def __init__(
        self,
        database: Database,
        publisher: EventPublisher,
        *,
        streams: Streams | None = None,
        flooded: Callable[[], Sequence[str]] = tuple,
        vitals: Vitals | None = None,
        pools: PoolWatch | None = None,
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._streams = streams
        self._flooded = flooded
        self._vitals = vitals or Vitals()
        self._pools = pools
        self._to_purge: set[str] = set()
        # Subjects that JetStream takes no more commands of, and until when they are left alone.
        self._full: dict[str, float] = {}
        self._election = _Election(database)

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until ``stop`` is set. Trouble with JetStream or the database is waited out."""
        checked = reconciled = float("-inf")
        loop = asyncio.get_running_loop()
        try:
            with self._database.commits.subscribe([OUTBOX]) as commits:
                while not stop.is_set():
                    try:
                        more = False
                        if await self._database.run(self._election.won):
                            if loop.time() - checked >= _STREAM_CHECK_SECONDS:
                                await self._ensure_streams()
                                await self._rebuild_flooded()
                                checked = loop.time()
                            if loop.time() - reconciled >= RECONCILE_SECONDS:
                                await self._try_to_reconcile()
                                reconciled = loop.time()
                            more = await self.publish_batch() == _BATCH
                            self._vitals.published()
                    except Transient as error:
                        _log.warning("cannot publish yet", error=str(error))
                        self._vitals.not_published(str(error))
                        checked = reconciled = float("-inf")
                    if not more:
                        await commits.wait(_POLL_SECONDS)
        finally:
            await self._database.run(self._election.resign)

    async def publish_batch(self) -> int:
        """Publish what is due, in order, up to a hundred events; returns how many were done with.

        Stops at the first event that JetStream does not confirm (raises `Transient`); what was confirmed stays marked.
        Commands of a subject that has too many wait; they hold up nothing else.
        """
        now = asyncio.get_running_loop().time()
        self._full = {subject: until for subject, until in self._full.items() if until > now}
        rows = await self._database.run_read(lambda session: _unpublished(session, set(self._full)))
        # What is published again is old without having waited.
        first = next((row for row in rows if not row.publications), None)
        waiting = (utc_now() - first.create_time).total_seconds() if first else 0.0
        metrics.OUTBOX_OLDEST_SECONDS.set(max(0.0, waiting))
        newest = (0, "")
        if any(row.kind == FACT and row.publications for row in rows):
            newest = await self._database.run_read(newest_published)
        done: list[int] = []
        try:
            for row in rows:
                if row.subject in self._full:
                    continue
                try:
                    await self._publish(row, newest)
                    done.append(row.sequence or 0)
                except Exhausted as error:
                    _log.warning("commands wait: the stream takes no more of them", error=str(error))
                    self._full[row.subject] = now + error.retry_after_seconds
        finally:
            if done:
                await self._database.run_write(lambda session: _mark_published(session, done))
        return len(done)

    async def _publish(self, row: OutboxRow, newest: tuple[int, str]) -> None:
        event = CloudEvent(
            id=row.id,
            type=row.type,
            source=SOURCE,
            subject=row.subject,
            resource_id=row.resource_id,
            time=row.create_time,
            data=row.body.encode(),
            traceparent=row.traceparent,
            repetition=row.publications,
            newest=newest[1] if row.kind == FACT and newest[0] > (row.sequence or 0) else "",
        )
        try:
            await self._publisher.publish(event)
        except (Transient, Exhausted):
            raise
        except TunixError as error:
            # It would fail every time and block everything behind it.
            _log.error("event cannot be published", event_id=row.id, subject=row.subject, error=str(error))
            message = str(error)[:2000]
            await self._database.run_write(lambda session: _mark_failed(session, row.sequence or 0, message))

    async def reconcile(self) -> Reconciled:
        """Send what JetStream has lost again, and remove commands that nobody needs. Raises `Transient`."""
        if self._streams is None:
            return Reconciled()
        newest = await self._streams.newest_fact()
        kept = timedelta(seconds=FACT_SECONDS)
        facts = await self._database.run_write(lambda session: reconcile_facts(session, newest, kept))
        stored = await self._streams.commands()
        found = await self._database.run_write(lambda session: reconcile_commands(session, stored))
        if facts or found.sent or found.surplus:
            _log.warning("streams differ from the tables", facts=facts, jobs=found.sent, surplus=len(found.surplus))
        await self._remove(stored, set(found.surplus))
        if self._pools is not None:
            look, served = self._pools.look, await self._streams.served(found.waiting)
            await self._database.run_write(lambda session: look(session, served, found.waiting))
        return found

    async def _remove(self, stored: Sequence[StoredCommand], surplus: Collection[int]) -> None:
        """Delete commands that nobody needs. Each deletion is synced: where there are many, the queue is emptied at
        once, and what jobs wait for is sent again."""
        assert self._streams is not None
        useless = [command for command in stored if command.sequence in surplus]
        counts = Counter(command.subject for command in useless)
        self._to_purge.update(subject for subject, count in counts.items() if count > _MANY)
        await self._streams.remove([each.sequence for each in useless if each.subject not in self._to_purge])

    async def _try_to_reconcile(self) -> None:
        """What can be published is published, whether or not the streams can be listed."""
        try:
            await self.reconcile()
        except Transient as error:
            _log.warning("the streams cannot be compared with the tables yet", error=str(error))

    async def _ensure_streams(self) -> None:
        if self._streams is not None:
            await self._streams.ensure()

    async def _rebuild_flooded(self) -> None:
        """Empty the queues that are full of useless commands, and send what jobs wait for again."""
        self._to_purge.update(self._flooded())
        for subject in sorted(self._to_purge if self._streams is not None else ()):
            assert self._streams is not None
            await self._streams.purge(subject)
            self._to_purge.discard(subject)
            found = await self.reconcile()
            _log.error("a flood of useless commands was removed", subject=subject, jobs=found.sent)


class _Election:
    """Holds one advisory lock on one connection as long as it lives. SQLite has one registry: it always wins."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def won(self) -> bool:
        """Whether this process is the one that publishes, now."""
        if self._database.is_sqlite:
            return True
        try:
            if self._connection is None:
                connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _RELAY_LOCK}).scalar():
                    connection.close()
                    return False
                self._connection = connection
            self._connection.execute(text("SELECT 1"))
        except DBAPIError as error:
            self._forget()
            raise Transient(f"the database is out of reach: {error.orig}") from error
        return True

    def resign(self) -> None:
        """Let another process publish."""
        self._forget()

    def _forget(self) -> None:
        if self._connection is not None:
            # Not back to the pool: the lock belongs to the connection.
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


def _unpublished(session: Session, full: Collection[str]) -> Sequence[OutboxRow]:
    statement = select(OutboxRow).where(
        col(OutboxRow.published_time).is_(None), col(OutboxRow.subject).not_in(full) if full else true()
    )
    return session.scalars(statement.order_by(col(OutboxRow.sequence)).limit(_BATCH)).all()


def _mark_published(session: Session, sequences: Sequence[int]) -> None:
    statement = update(OutboxRow).where(col(OutboxRow.sequence).in_(sequences))
    session.execute(statement.values(published_time=utc_now(), publications=OutboxRow.publications + 1))


def _mark_failed(session: Session, sequence: int, error: str) -> None:
    session.execute(update(OutboxRow).where(col(OutboxRow.sequence) == sequence).values(publish_error=error))
