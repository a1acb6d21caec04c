"""Sessions on SQLite and PostgreSQL: one RPC is one unit of work, run in a thread of its lane.

Owns connections, locks between writers, and what happens around a commit (the outbox is written last, waiters are woken
after).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DatabaseError, DataError, DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from tunix_rt.artifacts import ArtifactRoot
from tunix_rt.errors import Exhausted, FailedPrecondition, FieldViolation, InvalidInput, Transient
from tunix_rt.registry.kernel.columns import use_artifact_root
from tunix_rt.registry.kernel.commits import CommitNotifier, take_topics
from tunix_rt.registry.kernel.outbox import write_pending
from tunix_rt.registry.kernel.projects import ProjectSession
from tunix_rt.registry.kernel.resources import RESOURCES, Resources
from tunix_rt.registry.kernel.thread_lanes import ThreadLanes
from tunix_rt.registry.kernel.write_lock import WriteLock
from tunix_rt.rpc.lanes import Lane, current_turn
from tunix_rt.rpc.projects import current_project

T = TypeVar("T")

_BUSY_TIMEOUT_MS: Final = 15_000
_USED: Final = "tunix_rt_used"
_WRITE: Final = "tunix_rt_write"
# PostgreSQL: serialization_failure, deadlock_detected. The unit of work was rolled back and may simply run again.
_RETRYABLE: Final = frozenset({"40001", "40P01"})
_MAX_TRIES: Final = 5
# Threads, each with a connection, beside those of ordinary calls.
_OTHER_THREADS: Final[dict[Lane, int]] = {"control": 3, "inside": 2, "streams": 2}
# SQLite computes in this process: one thread computes, another waits for the disk, and the event loop lets calls in. A
# third that computes takes half of the loop's turns from it (measured: 1,300 calls a second are let in beside one busy
# thread, 500 beside two, 170 beside four; 2 cores).
_SQLITE_THREADS: Final = 3
# One that computes for longer than this no longer holds up the others.
_COMPUTING_SECONDS: Final = 0.05


class Database:
    """A database by URL: ``sqlite:///path`` or ``postgresql+psycopg://user:password@host/name``.

    Units of work (functions of a session) may run more than once, after a rollback, when PostgreSQL reports a deadlock:
    they must have no effect outside their session. For ``trusted_seconds`` after its last use a connection to
    PostgreSQL is taken for alive; if it is not, the unit of work fails as `Transient`, and the next one does not.
    Sessions know ``resources``: without them no fact and no command can be emitted. URIs below ``artifacts`` are stored
    relative to it.
    Ordinary calls have ``threads`` threads (SQLite: at most three); workers' calls, open streams and the registry's own
    work have others.
    """

    def __init__(
        self,
        url: str,
        resources: Resources | None = None,
        *,
        artifacts: ArtifactRoot | None = None,
        threads: int = 8,
        trusted_seconds: float = 2.0,
    ) -> None:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.is_sqlite: Final = parsed.get_backend_name() == "sqlite"
        if not self.is_sqlite and parsed.get_backend_name() != "postgresql":
            raise ValueError(
                f"database {parsed.get_backend_name()!r} is not supported: use sqlite or postgresql+psycopg"
            )
        if self.is_sqlite and parsed.database in (None, "", ":memory:"):
            raise ValueError("an in-memory SQLite database cannot be shared between threads: name a file")
        self.url: Final = parsed.render_as_string(hide_password=False)
        threads = min(threads, _SQLITE_THREADS) if self.is_sqlite else threads
        lanes: dict[Lane, int] = {"calls": threads, **_OTHER_THREADS}
        options: dict[str, Any] = {"pool_size": sum(lanes.values()) + 2, "max_overflow": threads}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": _BUSY_TIMEOUT_MS / 1000, "check_same_thread": False}
        else:
            # Whatever the cluster's own encoding is (SQL_ASCII in clusters made under the C locale).
            options["client_encoding"] = "utf8"
        self.engine: Final[Engine] = create_engine(parsed, **options)
        if artifacts is not None:
            use_artifact_root(self.engine, artifacts)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            self._reader = self._statement_reader = self.engine
        else:
            event.listen(self.engine, "checkin", _note_use)
            event.listen(self.engine, "checkout", self._ping_after_idleness)
            self._statement_reader = self.engine.execution_options(isolation_level="AUTOCOMMIT")
            # One snapshot for all queries of a read: a list and what hangs off its rows agree.
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._trusted_seconds = trusted_seconds
        self._writer = self.engine.execution_options(**{_WRITE: True})
        self._write_lock = WriteLock()
        self._computing_lock = threading.RLock()
        self._lanes = ThreadLanes(lanes)
        self.commits: Final = CommitNotifier()
        self._info: Final[dict[str, object]] = {RESOURCES: resources or {}}

    def check_file(self) -> None:
        """Raises `FailedPrecondition` where an SQLite file is damaged, or is something else."""
        if not self.is_sqlite:
            return
        try:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema")
        except DatabaseError as error:
            if isinstance(error.orig, sqlite3.OperationalError):  # locked, no space, no permission
                raise Transient(f"{self.engine.url.database} cannot be opened: {error.orig}") from error
            raise FailedPrecondition(
                f"{self.engine.url.database} is damaged, or no SQLite database ({error.orig}): "
                "restore it from a backup, or move it away"
            ) from error

    def crowded(self) -> bool:
        """Whether one more ordinary call would probably time out."""
        return self._lanes.crowded("calls")

    def share(self, name: str, value: object) -> None:
        """Let all sessions that begin from now on know ``value``, as ``session.info[name]``."""
        self._info[name] = value

    @contextmanager
    def read(self, *, statement: bool = False) -> Iterator[Session]:
        """A session that only reads, on one snapshot; nothing is committed.

        With ``statement`` it is for one query, which is a snapshot by itself: PostgreSQL is not asked to begin and end
        a transaction around it.
        """
        reader = self._statement_reader if statement else self._reader
        options: dict[str, Any] = {"autoflush": False, "expire_on_commit": False, "info": self._info}
        with self._computing(), _translated_errors(), ProjectSession(reader, **options) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose transaction commits at the end of the block, or not at all when it raises.

        SQLite has one writer: a lock in this process queues them, workers' calls first; ``BEGIN IMMEDIATE`` excludes
        other processes.
        """
        with (
            _translated_errors(),
            self._writing(),
            ProjectSession(self._writer, expire_on_commit=False, info=self._info) as session,
        ):
            with session.begin(), self._computing():
                yield session
                session.flush()
                write_pending(session)
            self.commits.notify(take_topics(session))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self.is_sqlite:
            with self._write_lock.held(urgent=current_turn().lane in ("control", "inside")):
                yield
        else:
            yield

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """On SQLite ordinary calls and streams compute one at a time, workers' calls and what is inside at any time."""
        if not self.is_sqlite or current_turn().lane in ("control", "inside"):
            yield
            return
        alone = self._computing_lock.acquire(timeout=_COMPUTING_SECONDS)
        try:
            yield
        finally:
            if alone:
                self._computing_lock.release()

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread of the caller's lane, in its context (principal, trace). Raises `Exhausted` for a
        call that has waited too long to begin."""
        return await self._lanes.run(work)

    async def run_read(self, work: Callable[[Session], T], *, statement: bool = False) -> T:
        """Run a reading unit of work in a thread, as `run`; ``statement`` as of `read`."""

        def unit() -> T:
            with self.read(statement=statement) as session:
                return work(session)

        return await self._lanes.run(unit)

    async def read_again(self, work: Callable[[Session], T], key: Hashable = None) -> T:
        """Run a reading unit of work of an open stream, which waits as long as it takes and holds up no call.

        Streams of one project that ask for the same ``key`` while they wait get one answer.
        """

        def unit() -> T:
            with self.read() as session:
                return work(session)

        if key is None:
            return await self._lanes.run(unit, "streams")
        return await self._lanes.run_shared((current_project(), key), unit, "streams")

    async def run_write(self, work: Callable[[Session], T]) -> T:
        """Run a writing unit of work in a thread, as `run`, and commit it; deadlocks are run again."""
        return await self._lanes.run(lambda: self.commit(work))

    def _ping_after_idleness(self, connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        """What lay idle may have died with its server: then the pool opens another. To ask every time would cost a
        round trip in each unit of work."""
        if time.monotonic() - record.info.get(_USED, 0.0) < self._trusted_seconds:
            return
        dialect = self.engine.dialect
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise DisconnectionError("the connection died while it was idle") from error

    def commit(self, work: Callable[[Session], T]) -> T:
        """Run a writing unit of work here and commit it; deadlocks are run again, up to five times."""
        for tries_left in range(_MAX_TRIES - 1, -1, -1):
            try:
                with self.write() as session:
                    return work(session)
            except _Retryable as failure:
                if tries_left == 0:
                    raise Transient(f"the database found no order for concurrent writes: {failure}") from failure
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Wait for running units of work, then close every connection."""
        self._lanes.close()
        self.engine.dispose()


class _Retryable(Transient):
    """The transaction lost against another one and may run again."""


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Driver errors to wait out become `Transient`, those to correct `InvalidInput`; the rest are bugs and pass."""
    try:
        yield
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state in _RETRYABLE:
            raise _Retryable(str(error.orig)) from error
        if isinstance(error, OperationalError) or error.connection_invalidated:
            raise Transient(f"the database is out of reach: {error.orig}") from error
        if isinstance(error, DataError):
            # A last resort behind the validators: NUL in text, a number out of range.
            raise InvalidInput([FieldViolation("", f"holds a value that cannot be stored: {error.orig}")]) from error
        raise
    except NoConnection as error:
        raise Exhausted(f"every connection to the database is in use: {error}") from error


def _note_use(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info[_USED] = time.monotonic()


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction handling is off: _begin_sqlite decides how each transaction begins.
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        # What was acknowledged survives a power cut.
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {_BUSY_TIMEOUT_MS}",
        # LIKE as in PostgreSQL.
        "case_sensitive_like = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
