"""Whether a JSON object of tags holds a text, in the form that each database answers best."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, cast, literal
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


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
def _taken_out(element: TagIs, compiler: SQLCompiler, **options: Any) -> str:
    _, extracted = element.clauses
    return f"({compiler.process(extracted, **options)})"


@compiles(TagIs, "postgresql")
def _contained(element: TagIs, compiler: SQLCompiler, **options: Any) -> str:
    contained, _ = element.clauses
    return f"({compiler.process(contained, **options)})"
