"""Column types, indexes and conditions that tables share, and rows that are written once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from sqlalchemy import JSON, Boolean, Connection, DateTime, Dialect, Index, cast, event, literal
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator
from sqlmodel import SQLModel

T = TypeVar("T", bound=SQLModel)

# For objects that filters look into: PostgreSQL finds a member without parsing the text again.
BINARY_JSON = JSON().with_variant(JSONB(), "postgresql")


def tags_index(name: str) -> Index:
    """An index on what the object in the column ``tags`` contains; on PostgreSQL alone, SQLite has none such."""
    return Index(
        name,
        "tags",
        postgresql_using="gin",
        postgresql_ops={"tags": "jsonb_path_ops"},
        postgresql_with={"fastupdate": "off"},
    ).ddl_if(dialect="postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware UTC in Python, ``timestamptz`` on PostgreSQL, naive UTC text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored time needs a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class TagIs(FunctionElement[bool]):
    """True where the tag ``name`` is ``value``; false or NULL elsewhere.

    PostgreSQL is asked what the object contains, which an index on it knows; SQLite takes the member out.
    """

    inherit_cache = True
    type = Boolean()

    def __init__(self, tags: Any, name: str, value: str) -> None:
        contained = cast(tags, JSONB).contains(literal({name: value}, JSONB))
        super().__init__(contained, tags[name].as_string() == value)


@compiles(TagIs)
def _compile_sqlite(element: TagIs, compiler: SQLCompiler, **options: Any) -> str:
    _, extracted = element.clauses
    return f"({compiler.process(extracted, **options)})"


@compiles(TagIs, "postgresql")
def _compile_postgresql(element: TagIs, compiler: SQLCompiler, **options: Any) -> str:
    contained, _ = element.clauses
    return f"({compiler.process(contained, **options)})"


def append_only(table: type[T]) -> type[T]:
    """Make every change and every deletion of a stored row of ``table`` a TypeError, and its transaction fail."""
    event.listen(table, "before_update", _refuse)
    event.listen(table, "before_delete", _refuse)
    return table


def _refuse(mapper: Mapper[SQLModel], connection: Connection, row: SQLModel) -> NoReturn:
    raise TypeError(f"rows of {mapper.local_table} are written once and never changed: {row!r}")
