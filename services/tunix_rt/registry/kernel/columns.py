"""Column types, indexes and conditions that tables share, and rows that are written once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import JSON, Boolean, Connection, DateTime, Dialect, Engine, Index, String, cast, event, literal
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import SQLModel

from tunix_rt.artifacts import ArtifactRoot

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


class ArtifactUri(TypeDecorator[str]):
    """Where an artifact lies: an absolute URI in Python, relative to the root of the artifact store in the database.

    So rows hold wherever the store is moved or copied to, and nobody but the database knows. URIs outside of the store
    (``hf://``, a user's ``file://``) are stored as they are; so is everything where the engine was given no root. The
    column ``digest`` beside it is that of the artifact (`registry.references`).
    """

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        # By code point, as all text (`registry.tables`).
        return dialect.type_descriptor(String(collation="C") if dialect.name == "postgresql" else String())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        root = _ROOTS.get(dialect)
        return root.relative(value) if root is not None and value else value

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        root = _ROOTS.get(dialect)
        return root.absolute(value) if root is not None and value else value


# By dialect: that is what a type sees of its engine, and each engine has its own.
_ROOTS: WeakKeyDictionary[Dialect, ArtifactRoot] = WeakKeyDictionary()


def use_artifact_root(engine: Engine, root: ArtifactRoot) -> None:
    """URIs in ``engine``'s database are relative to ``root``."""
    _ROOTS[engine.dialect] = root


def artifact_root_of(dialect: Dialect) -> ArtifactRoot | None:
    """The root that was given with `use_artifact_root`."""
    return _ROOTS.get(dialect)


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
