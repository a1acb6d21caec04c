"""Bulk loading: COPY into PostgreSQL without its indexes, executemany into SQLite; then statistics. Knows no schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import psycopg
from psycopg import sql

_BATCH = 20_000


class Loader(Protocol):
    """Takes rows; JSON comes as text. Nothing is promised to be stored before the loader's block has ended."""

    def add(self, table: str, columns: Sequence[str], row: Sequence[Any]) -> None:
        """One row more for ``table``."""


class _Batches:
    """Collects rows per table and columns, and hands them on in batches."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, tuple[str, ...]], list[Sequence[Any]]] = {}

    def add(self, table: str, columns: Sequence[str], row: Sequence[Any]) -> None:
        key = (table, tuple(columns))
        rows = self._rows.setdefault(key, [])
        rows.append(row)
        if len(rows) >= _BATCH:
            self._write(*key, self._rows.pop(key))

    def flush(self) -> None:
        for (table, columns), rows in self._rows.items():
            self._write(table, columns, rows)
        self._rows.clear()

    def _write(self, table: str, columns: tuple[str, ...], rows: list[Sequence[Any]]) -> None:
        raise NotImplementedError


class _PostgresLoader(_Batches):
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__()
        self._connection = connection

    def _write(self, table: str, columns: tuple[str, ...], rows: list[Sequence[Any]]) -> None:
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        with self._connection.cursor().copy(statement) as copy:
            for row in rows:
                copy.write_row(row)


class _SqliteLoader(_Batches):
    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection

    def _write(self, table: str, columns: tuple[str, ...], rows: list[Sequence[Any]]) -> None:
        names = ", ".join(f'"{name}"' for name in columns)
        statement = f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(columns))})'
        self._connection.executemany(statement, (tuple(map(_plain, row)) for row in rows))


def _plain(value: Any) -> Any:
    """Times as SQLAlchemy writes them."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, datetime) else value


@contextmanager
def bulk_load(url: str) -> Iterator[Loader]:
    """A loader into a database, which has no keys and indexes meanwhile, and is analysed at the end."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        connection.execute("PRAGMA synchronous = OFF")
        with connection:
            sqlite = _SqliteLoader(connection)
            yield sqlite
            sqlite.flush()
        connection.execute("ANALYZE")
        connection.close()
        return
    with psycopg.connect(url, autocommit=True) as postgres:
        restore = _drop_indexes(postgres)
        loader = _PostgresLoader(postgres)
        yield loader
        loader.flush()
        for statement in restore:
            postgres.execute(statement)  # type: ignore[call-overload]
        postgres.execute("VACUUM ANALYZE")
        postgres.execute("CHECKPOINT")


def _drop_indexes(connection: psycopg.Connection[Any]) -> list[str]:
    """Drop every key and index; the statements that bring them back, foreign keys last."""
    constraints = connection.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE contype IN ('p', 'u', 'f') AND connamespace = 'public'::regnamespace ORDER BY contype = 'f', conname"
    ).fetchall()
    for table, name, _ in reversed(constraints):
        connection.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')  # type: ignore[call-overload]
    indexes = connection.execute("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'").fetchall()
    for name, _ in indexes:
        connection.execute(f'DROP INDEX "{name}"')  # type: ignore[call-overload]
    keys = [f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}' for table, name, definition in constraints]
    return [*(definition for _, definition in indexes), *keys]


def size_of(url: str) -> int:
    """Bytes on disk, indexes included."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
            return pages * int(connection.execute("PRAGMA page_size").fetchone()[0])
    with psycopg.connect(url) as postgres:
        found = postgres.execute("SELECT pg_database_size(current_database())").fetchone()
        assert found is not None
        return int(found[0])
