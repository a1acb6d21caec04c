"""Who copies artifacts and who deletes them keep out of each other's way, also when they are different processes.

On PostgreSQL an advisory lock; beside an SQLite file, which one machine has, a lock on a file. Either ends with the
process that holds it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import text

from tunix_rt.errors import Transient
from tunix_rt.registry.kernel.database import Database

# Any constant will do, as long as nothing else in the database uses it.
_LOCK: Final = 7_420_017


@contextmanager
def artifacts_stay(database: Database) -> Iterator[None]:
    """Nothing is deleted from the artifact store within the block. Waits for a deletion under way."""
    with _locked(database, exclusive=False):
        yield


@contextmanager
def artifacts_may_go(database: Database) -> Iterator[None]:
    """Artifacts that no row refers to may be deleted within the block, which is to be short.

    Raises `Transient` where somebody relies on them, such as a backup.
    """
    with _locked(database, exclusive=True):
        yield


@contextmanager
def _locked(database: Database, *, exclusive: bool) -> Iterator[None]:
    busy = Transient("a backup, or another deletion, holds the artifacts of this platform: try again when it has ended")
    if database.is_sqlite:
        descriptor = os.open(f"{database.engine.url.database}.artifacts-lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
            except BlockingIOError as error:
                raise busy from error
            yield
        finally:
            os.close(descriptor)
        return
    statement = "pg_try_advisory_lock(:key)" if exclusive else "pg_advisory_lock_shared(:key)"
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.scalar(text(f"SELECT {statement}"), {"key": _LOCK}) is False:
            raise busy
        try:
            yield
        finally:
            connection.execute(text(f"SELECT pg_advisory_unlock{'' if exclusive else '_shared'}(:key)"), {"key": _LOCK})
