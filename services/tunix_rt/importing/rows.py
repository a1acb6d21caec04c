"""A row of somebody's file, and what may be wrong with a file, a row or a field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunix_rt.errors import TunixError


class UnreadableFile(TunixError):
    """The file as a whole cannot be imported; the message says what it looks like and what helps."""


class RowProblem(Exception):
    """A row that cannot be imported. ``reason`` counts equal problems together; ``detail`` is of this row."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


@dataclass(frozen=True, slots=True)
class Row:
    """``values`` by column, or None with the ``problem``. ``place`` is where it stands: "line 3", "row 7".
    ``repaired``: halves of surrogate pairs became U+FFFD."""

    place: str
    values: dict[str, Any] | None
    problem: str = ""
    repaired: bool = False


_MISSING = object()


def at(values: dict[str, Any], path: str) -> Any:
    """The value of the column ``path``, or that at the end of a path with dots (``doc.question``); None if absent."""
    if path in values:
        return values[path]
    found: Any = values
    for name in path.split("."):
        found = found.get(name, _MISSING) if isinstance(found, dict) else _MISSING
        if found is _MISSING:
            return None
    return found


def first_of(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The value of the first of the columns ``names`` that is there and neither null nor empty text."""
    for name in names:
        value = values.get(name)
        if value is not None and value != "":
            return value
    return None


def text_of(value: Any, what: str) -> str:
    """``value`` as text: whole numbers as their digits, other numbers as they were written. Raises `RowProblem`."""
    if isinstance(value, str):
        return value
    if value is None:
        raise RowProblem(f"has no {what}")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        written = getattr(value, "written", None)
        return str(written) if written is not None else repr(value).removesuffix(".0")
    if type(value).__name__ in ("Decimal", "date", "datetime", "time"):
        return str(value)
    raise RowProblem(f"its {what} is no text", f"but {kind_of(value)}")


def kind_of(value: Any) -> str:
    """What JSON calls a value."""
    kinds = {dict: "an object", list: "a list", str: "text", bytes: "bytes", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
