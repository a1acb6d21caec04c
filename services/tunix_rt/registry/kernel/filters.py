"""Filters of list calls: a subset of AIP-160, parsed with lark and compiled to SQL, never evaluated in Python.

    state = RUNNING AND (pool = "cpu" OR pool = "gpu-*") AND NOT tags.team : "x" AND create_time >= 2026-01-31

- ``=  !=  <  <=  >  >=  :``; ``AND``, ``OR``, ``NOT`` (or ``-``), parentheses. As AIP-160 has it, OR binds tighter than
  AND, and two restrictions side by side are joined by AND.
- Text: ``=`` compares exactly; ``*`` in a value, quoted or not, stands for anything (``\\*`` is a star); ``:`` is
  "contains", whatever the case of ASCII letters. ``tags.NAME:*`` and ``tags:NAME`` ask whether the tag is there.
- Numbers are compared as numbers, also within an object: ``config.learning_rate < 1e-4``.
- Times are RFC 3339, or a date, which is its midnight in UTC.
- What has no value equals nothing, is neither less nor greater, and differs from everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, Final

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedInput, UnexpectedToken, VisitError
from sqlalchemy import ColumnElement, and_, false, func, not_, or_, true

from tunix_rt.contract.identifiers import TAG_NAME
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.registry.kernel.columns import TagIs

MAX_LENGTH: Final = 2000
MAX_RESTRICTIONS: Final = 50
_MAX_DEPTH: Final = 30
_QUOTED: Final = re.compile(r""" "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' """, re.VERBOSE)
_INT64: Final = range(-(2**63), 2**63)

_GRAMMAR: Final = r"""
    start: conjunction
    ?conjunction: sequence ("AND" sequence)*
    ?sequence: disjunction+
    ?disjunction: term ("OR" term)*
    ?term: ("NOT" | "-") simple -> negation
         | simple
    ?simple: FIELD OPERATOR value -> restriction
           | "(" conjunction ")"
    value: QUOTED -> quoted
         | BARE -> bare
    FIELD: /[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_.\/-]+)?/
    OPERATOR: "!=" | "<=" | ">=" | "=" | "<" | ">" | ":"
    QUOTED: /"(\\.|[^"\\])*"/ | /'(\\.|[^'\\])*'/
    BARE: /(\\.|[^\s()"'\\=<>!])+/
    %import common.WS
    %ignore WS
"""


class Kind(Enum):
    """How a field's values are written and compared."""

    TEXT = "text"
    ENUM = "enum"
    INTEGER = "integer"
    NUMBER = "number"
    TIME = "time"
    BOOLEAN = "boolean"
    TAGS = "tags"
    OBJECT = "object"


_DOTTED: Final = frozenset({Kind.TAGS, Kind.OBJECT})


@dataclass(frozen=True)
class FilterField:
    """A field that a filter may name. ``column`` is a mapped attribute; ``values`` are an enum's names.

    TAGS needs a JSON column that holds one object of strings; the filter names ``<field>.<tag>``. OBJECT needs one of
    scalars; ``members`` are the names that it may hold, and how each is compared (TEXT, NUMBER or BOOLEAN).
    """

    column: Any
    kind: Kind = Kind.TEXT
    values: frozenset[str] = frozenset()
    members: Mapping[str, Kind] = field(default_factory=dict)

    def written(self, name: str) -> str:
        """How a filter names the field."""
        return f"{name}.<name>" if self.kind in _DOTTED else name


@dataclass(frozen=True)
class _Value:
    text: str
    """The value with escapes resolved."""
    pattern: str | None
    """A LIKE pattern (escape character backslash), when the value holds a free ``*``."""


def compile_filter(text: str, fields: Mapping[str, FilterField]) -> ColumnElement[bool]:
    """The SQL condition that ``text`` means; true for an empty one.

    Raises `InvalidInput` naming ``filter`` for a syntax error (with its position), an unknown field, or a value that
    does not fit its field.
    """
    if not text.strip():
        return true()
    if len(text) > MAX_LENGTH:
        raise _invalid(f"is longer than {MAX_LENGTH} characters")
    if "\0" in text:
        raise _invalid("holds a NUL character")
    if _depth(text) > _MAX_DEPTH:
        raise _invalid(f"is nested deeper than {_MAX_DEPTH}")
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise _invalid(_syntax_error(text, error)) from error
    try:
        condition: ColumnElement[bool] = _Compiler(fields).transform(tree)
    except VisitError as error:
        if isinstance(error.orig_exc, InvalidInput):
            raise error.orig_exc from None
        raise
    return condition


def names_field(text: str, name: str) -> bool:
    """Whether a filter that compiles has a restriction on the field ``name``."""
    return re.search(rf"(?<![\w.]){name}\s*[!<>=:]", _QUOTED.sub("", text)) is not None


def state_field(column: Any, values: type[Enum]) -> FilterField:
    """A field over the names of an enum."""
    return FilterField(column, Kind.ENUM, frozenset(str(each.value) for each in values))


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", lexer="contextual", maybe_placeholders=False)


class _Compiler(Transformer[Token, ColumnElement[bool]]):
    def __init__(self, fields: Mapping[str, FilterField]) -> None:
        super().__init__()
        self._fields = fields
        self._restrictions = 0

    def start(self, children: list[ColumnElement[bool]]) -> ColumnElement[bool]:
        return children[0]

    def conjunction(self, children: list[ColumnElement[bool]]) -> ColumnElement[bool]:
        return and_(*children)

    sequence = conjunction

    def disjunction(self, children: list[ColumnElement[bool]]) -> ColumnElement[bool]:
        return or_(*children)

    def negation(self, children: list[ColumnElement[bool]]) -> ColumnElement[bool]:
        # NULL is not true, and its negation is.
        return not_(func.coalesce(children[0], false()))

    def quoted(self, children: list[Token]) -> _Value:
        return _read_value(str(children[0])[1:-1])

    def bare(self, children: list[Token]) -> _Value:
        return _read_value(str(children[0]))

    def restriction(self, children: list[Any]) -> ColumnElement[bool]:
        self._restrictions += 1
        if self._restrictions > MAX_RESTRICTIONS:
            raise _invalid(f"has more than {MAX_RESTRICTIONS} restrictions")
        name, operator, value = str(children[0]), str(children[1]), children[2]
        base, _, member = name.partition(".")
        field = self._fields.get(base)
        dotted = field is not None and field.kind in _DOTTED
        asks_for_a_tag = field is not None and field.kind is Kind.TAGS and operator == ":"
        if field is None or (member and not dotted) or (dotted and not member and not asks_for_a_tag):
            known = ", ".join(each.written(name) for name, each in self._fields.items())
            raise _invalid(f"cannot use field {name!r} with {operator!r}; fields are {known}")
        return _COMPARE[field.kind](field, member if dotted else name, operator, value)


def _compare_text(field: FilterField, name: str, operator: str, value: _Value) -> ColumnElement[bool]:
    return _text_condition(field.column, operator, value)


def _text_condition(column: Any, operator: str, value: _Value) -> ColumnElement[bool]:
    if operator == ":":
        if value.pattern == "%":
            condition: ColumnElement[bool] = column.is_not(None)
            return condition
        pattern = value.pattern if value.pattern is not None else _like_escaped(value.text)
        condition = func.lower(column).like(_ascii_lower(f"%{pattern}%"), escape="\\")
        return condition
    if value.pattern is None:
        return _ordered(column, operator, value.text)
    if operator not in ("=", "!="):
        raise _invalid(f"* can only be used with =, != and :, not with {operator}")
    matches: ColumnElement[bool] = column.like(value.pattern, escape="\\")
    return not_(func.coalesce(matches, false())) if operator == "!=" else matches


def _compare_enum(field: FilterField, name: str, operator: str, value: _Value) -> ColumnElement[bool]:
    if operator not in ("=", "!=", ":"):
        raise _invalid(f"{name} has no order: use = or !=")
    if value.text not in field.values:
        raise _invalid(f"{name} cannot be {value.text!r}; it is one of {', '.join(sorted(filter(None, field.values)))}")
    return _ordered(field.column, "=" if operator == ":" else operator, value.text)


def _compare_integer(field: FilterField, name: str, operator: str, value: _Value) -> ColumnElement[bool]:
    try:
        number = int(value.text)
    except ValueError:
        raise _invalid(f"{name} takes an integer, not {value.text!r}") from None
    if number not in _INT64:
        raise _invalid(f"{name}: {value.text} does not fit 64 bits")
    return _ordered(field.column, _no_has(name, operator), number)


def _compare_number(field: FilterField, name: str, operator: str, value: _Value) -> ColumnElement[bool]:
    try:
        number = float(value.text)
    except ValueError:
        raise _invalid(f"{name} takes a number, not {value.text!r}") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise _invalid(f"{name} takes a finite number, not {value.text!r}")
    return _ordered(field.column, _no_has(name, operator), number)


def _compare_time(field: FilterField, name: str, operator: str, value: _Value) -> ColumnElement[bool]:
    try:
        instant = datetime.fromisoformat(value.text)
        instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _invalid(f"{name} takes a date or an RFC 3339 time, not {value.text!r}") from None
    return _ordered(field.column, _no_has(name, operator), instant)


def _compare_tag(field: FilterField, name: str, operator: str, value: _Value) -> ColumnElement[bool]:
    """``name`` is the tag after the dot, or "" in ``tags:NAME``, which asks for the tag that the value names."""
    tags = field.column
    if not name:
        is_there: ColumnElement[bool] = tags[_checked_tag(value.text)].as_string().is_not(None)
        return is_there
    if operator == "=" and value.pattern is None:
        return TagIs(tags, _checked_tag(name), value.text)
    return _text_condition(tags[_checked_tag(name)].as_string(), operator, value)


def _compare_boolean(field: FilterField, name: str, operator: str, value: _Value) -> ColumnElement[bool]:
    if operator not in ("=", "!=") or value.text not in ("true", "false"):
        raise _invalid(f"{name} is true or false: use = or !=")
    return _ordered(field.column, operator, value.text == "true")


def _compare_member(field: FilterField, name: str, operator: str, value: _Value) -> ColumnElement[bool]:
    """``name`` is what stands after the dot."""
    kind = field.members.get(name)
    if kind is None:
        raise _invalid(f"there is no {name!r}; there are {', '.join(sorted(field.members))}")
    member = field.column[name]
    typed = {Kind.NUMBER: member.as_float, Kind.BOOLEAN: member.as_boolean}.get(kind, member.as_string)()
    return _COMPARE[kind](FilterField(typed, kind), name, operator, value)


def _checked_tag(tag: str) -> str:
    if not TAG_NAME.fullmatch(tag):
        raise _invalid(f"{tag!r} is not a tag name")
    return tag


_COMPARE: Final[Mapping[Kind, Callable[[FilterField, str, str, _Value], ColumnElement[bool]]]] = {
    Kind.TEXT: _compare_text,
    Kind.ENUM: _compare_enum,
    Kind.INTEGER: _compare_integer,
    Kind.NUMBER: _compare_number,
    Kind.TIME: _compare_time,
    Kind.BOOLEAN: _compare_boolean,
    Kind.TAGS: _compare_tag,
    Kind.OBJECT: _compare_member,
}


def _ordered(column: Any, operator: str, value: Any) -> ColumnElement[bool]:
    condition: ColumnElement[bool]
    match operator:
        case "=":
            condition = column == value
        case "!=":
            condition = not_(func.coalesce(column == value, false()))
        case "<":
            condition = column < value
        case "<=":
            condition = column <= value
        case ">":
            condition = column > value
        case _:
            condition = column >= value
    return condition


def _no_has(name: str, operator: str) -> str:
    if operator == ":":
        raise _invalid(f"{name} cannot be asked with ':': use =, !=, <, <=, > or >=")
    return operator


def _read_value(raw: str) -> _Value:
    """Resolve backslash escapes; a star that is not escaped makes the value a pattern."""
    text: list[str] = []
    pattern: list[str] = []
    starred = False
    characters = iter(raw)
    for character in characters:
        if character == "\\":
            character = next(characters, "\\")
        elif character == "*":
            starred = True
            text.append("*")
            pattern.append("%")
            continue
        text.append(character)
        pattern.append(_like_escaped(character))
    return _Value("".join(text), "".join(pattern) if starred else None)


def _like_escaped(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def _ascii_lower(text: str) -> str:
    """Lower case as SQLite's lower() and PostgreSQL's under the C collation do it."""
    return "".join(each.lower() if each.isascii() else each for each in text)


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    return deepest


def _syntax_error(text: str, error: UnexpectedInput) -> str:
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return "syntax error: the filter ends too early"
    position = error.pos_in_stream or 0
    return f"syntax error at character {position + 1}: unexpected {text[position : position + 20]!r}"


def _invalid(description: str) -> InvalidInput:
    return InvalidInput([FieldViolation("filter", description)])
