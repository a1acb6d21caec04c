"""Rows as text that no database engine owns: a JSON array a row, by the kind of each column; gzip in chunks.

``time`` is RFC 3339 in UTC, ``bytes`` base64, ``json`` the document's own text (so that nothing in it changes), and
``artifact`` an URI as it is stored, relative to the store. Chunks end after a number of bytes, in the order of primary
keys: of a table that only grows, all but the last are the same in the next backup.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BindParameter,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    Text,
    cast,
    func,
    select,
    text,
    type_coerce,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from tunix_rt.errors import InvalidArtifact
from tunix_rt.registry.kernel.columns import ArtifactUri, UtcDateTime

ARTIFACT: Final = "artifact"
_SEQUENCE: Final = text("SELECT pg_get_serial_sequence(:table, :column)")
_CHUNK_BYTES: Final = 8 << 20
_ROWS_AT_ONCE: Final = 2_000
# The first that a column's type is an instance of.
_KINDS: Final[Sequence[tuple[type[Any], str]]] = (
    (ArtifactUri, ARTIFACT),
    (UtcDateTime, "time"),
    (JSON, "json"),
    (LargeBinary, "bytes"),
    (Boolean, "boolean"),
    (Float, "float"),
    (Integer, "integer"),
    (String, "text"),
)
_TYPES: Final[Mapping[str, TypeEngine[Any]]] = {
    ARTIFACT: Text(),
    "time": UtcDateTime(),
    "json": Text(),
    "bytes": LargeBinary(),
    "boolean": Boolean(),
    "float": Float(),
    "integer": Integer(),
    "text": Text(),
}
_WRITTEN: Final[Mapping[str, Callable[[Any], Any]]] = {
    "time": lambda value: value.isoformat(),
    "bytes": lambda value: base64.b64encode(value).decode(),
}
_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "time": lambda value: datetime.fromisoformat(value).astimezone(UTC),
    "bytes": base64.b64decode,
}


class _Document(TypeDecorator[str]):
    """The text of a document, for a column that takes documents."""

    impl = Text
    cache_ok = True

    def bind_expression(self, bindvalue: BindParameter[str]) -> ColumnElement[Any]:
        return cast(bindvalue, JSON)


def kinds_of(table: Table) -> dict[str, str]:
    """The kind of each column. Raises `TypeError` for a type that backups do not know."""
    return {column.name: _kind_of(column) for column in table.columns}


def _kind_of(column: Column[Any]) -> str:
    for of, kind in _KINDS:
        if isinstance(column.type, of):
            return kind
    raise TypeError(f"backups do not know the type of {column}: {column.type!r}")


def chunks_of(connection: Connection, table: Table) -> Iterator[tuple[int, bytes]]:
    """(number of rows, compressed text) of each chunk of the table, as the connection's transaction sees it."""
    kinds = list(kinds_of(table).values())
    lines: list[str] = []
    size = 0
    found = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(_selected(table, connection.dialect.name))
    for row in found:
        line = json.dumps([_written(kind, value) for kind, value in zip(kinds, row, strict=True)], ensure_ascii=False)
        lines.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES:
            yield len(lines), compressed(lines)
            lines, size = [], 0
    if lines:
        yield len(lines), compressed(lines)


def _selected(table: Table, dialect: str) -> Select[Any]:
    """Documents and URIs as they are stored."""

    def of(column: Column[Any]) -> Any:
        kind = _kind_of(column)
        if kind == "json":
            # SQLite stores the text itself, and NULL apart from the document null.
            return cast(column, Text) if dialect == "postgresql" else type_coerce(column, Text)
        return type_coerce(column, Text) if kind == ARTIFACT else column

    return select(*(of(column).label(column.name) for column in table.columns)).order_by(*table.primary_key.columns)


def _written(kind: str, value: Any) -> Any:
    return value if value is None or kind not in _WRITTEN else _WRITTEN[kind](value)


def compressed(lines: Sequence[str]) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"), 5, mtime=0)


def read_rows(chunk: bytes) -> Iterator[list[Any]]:
    """The rows of a chunk. Raises `InvalidArtifact` for one that is damaged."""
    try:
        for line in gzip.decompress(chunk).decode("utf-8", "surrogatepass").split("\n"):
            if line:
                yield json.loads(line)
    except (OSError, EOFError, ValueError) as error:
        raise InvalidArtifact(f"a chunk of rows is damaged: {error}") from error


def insert_rows(connection: Connection, name: str, kinds: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert rows that `chunks_of` made, on either engine, into a table that has these columns."""
    types = dict(_TYPES) | ({"json": _Document()} if connection.dialect.name == "postgresql" else {})
    statement = Table(name, MetaData(), *(Column(column, types[kind]) for column, kind in kinds.items())).insert()
    batch: list[dict[str, Any]] = []
    for row in rows:
        cells = zip(kinds.items(), row, strict=True)
        batch.append({column: cell if cell is None else _READ.get(kind, _same)(cell) for (column, kind), cell in cells})
        if len(batch) == _ROWS_AT_ONCE:
            connection.execute(statement, batch)
            batch = []
    if batch:
        connection.execute(statement, batch)


def _same(cell: Any) -> Any:
    return cell


def counters_of(connection: Connection, table: Table) -> dict[str, int]:
    """The last number that the database has given in the column that it numbers, if there is one and it has."""
    column = table.autoincrement_column
    if column is None:
        return {}
    last = connection.scalar(select(func.max(column))) or 0
    if connection.dialect.name == "postgresql":
        sequence = connection.scalar(_SEQUENCE, {"table": table.name, "column": column.name})
        if sequence:
            last = max(last, connection.scalar(text(f"SELECT last_value FROM {sequence} WHERE is_called")) or 0)
    elif connection.dialect.has_table(connection, "sqlite_sequence"):
        given = text("SELECT seq FROM sqlite_sequence WHERE name = :table")
        last = max(last, connection.scalar(given, {"table": table.name}) or 0)
    return {column.name: last} if last else {}


def set_counter(connection: Connection, table: str, column: str, last: int) -> None:
    """The next row gets a number above ``last``."""
    if connection.dialect.name == "postgresql":
        sequence = connection.scalar(_SEQUENCE, {"table": table, "column": column})
        if sequence:
            connection.execute(text("SELECT setval(:sequence, :last)"), {"sequence": sequence, "last": last})
        return
    # Only tables with AUTOINCREMENT have a row here; the others go on from their highest number.
    given = {"table": table, "last": last}
    if not connection.execute(text("UPDATE sqlite_sequence SET seq = :last WHERE name = :table"), given).rowcount:
        declared = text("SELECT sql LIKE '%AUTOINCREMENT%' FROM sqlite_schema WHERE name = :table")
        if connection.scalar(declared, given):
            connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :last)"), given)
