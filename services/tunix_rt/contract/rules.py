"""One rule: which values a field takes, its default, and what to say of any other value."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType, NoneType
from typing import Any, Final, NamedTuple, get_args, get_type_hints

from tunix_rt.errors import Violations

Scalar = bool | int | float | str

ANY: Final = "(-inf, inf)"
_INTERVAL: Final = re.compile(r"([\[(])([^,]+), ([^,]+)([\])])")


class Bounds(NamedTuple):
    """The ends of an interval; an open end does not belong to it."""

    low: float
    high: float
    low_open: bool
    high_open: bool


@dataclass(frozen=True)
class Rule:
    """What one field may hold.

    ``kind`` is the Python type of a value, or of each entry where ``entries`` limits how many a repeated field has.
    ``interval``, as ``"(0, 1]"``, holds the values of a number and the lengths (in characters) of a text.
    ``served`` are the ``choices`` that this version can carry out; empty: all of them.
    ``flags`` are names of its command-line option beside its own.
    """

    kind: type
    default: Any = None
    interval: str = ANY
    choices: tuple[str, ...] = ()
    served: tuple[str, ...] = ()
    pattern: str = ""
    # The pattern in words.
    expected: str = ""
    entries: int | None = None
    # In a message without presence, 0 stands for the default.
    zero_is_default: bool = False
    flags: tuple[str, ...] = ()
    help: str = ""

    def problem(self, value: Any) -> str | None:
        """What is wrong with ``value``, an entry of a repeated field; None when nothing is."""
        if self.kind is bool:
            return None if isinstance(value, bool) else "must be true or false"
        return self._text_problem(value) if self.kind is str else self._number_problem(value)

    def check(self, value: Any, path: str, violations: Violations) -> None:
        """Add what is wrong with the field's ``value`` under ``path``; entries are named as ``path[2]``."""
        if self.entries is None:
            problem = self.problem(value)
            violations.check(problem is None, path, problem or "")
            return
        violations.check(len(value) <= self.entries, path, f"must have at most {self.entries} entries")
        for index, entry in enumerate(value[: self.entries]):
            problem = self.problem(entry)
            violations.check(problem is None, f"{path}[{index}]", problem or "")

    def cast(self, value: Any) -> Scalar:
        """A valid ``value`` in the field's type (JSON numbers are all floats)."""
        result: Scalar = self.kind(value)
        return result

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return _bounds(self.interval).low

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return _bounds(self.interval).high

    @property
    def low_open(self) -> bool:
        """Whether ``low`` itself is outside."""
        return _bounds(self.interval).low_open

    def _number_problem(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        if isinstance(value, float) and not math.isfinite(value):
            return "must be finite"
        if self.kind is int and value != int(value):
            return "must be a whole number"
        return None if self._within(value) else f"must be in {self.interval}"

    def _text_problem(self, value: Any) -> str | None:
        if not isinstance(value, str):
            return "must be text"
        if self.choices:
            return self._choice_problem(value)
        if "\0" in value:
            return "must not contain NUL"
        if not self._within(len(value)):
            return f"must have a length in {self.interval} characters"
        if self.pattern and re.fullmatch(self.pattern, value) is None:
            return f"must be {self.expected}" if self.expected else f"must match {self.pattern}"
        return None

    def _choice_problem(self, value: str) -> str | None:
        served = self.served or self.choices
        if value in served:
            return None
        names = ", ".join(each or '""' for each in served)
        if value in self.choices:
            return f"{value!r} is not served by this version; expected one of {names}"
        return f"unknown value {value!r}; expected one of {names}"

    def _within(self, value: float) -> bool:
        low, high, low_open, high_open = _bounds(self.interval)
        return (low < value or (low == value and not low_open)) and (value < high or (value == high and not high_open))


def limits(interval: str = "", *flags: str, **settings: Any) -> Callable[..., Rule]:
    """What a dataclass's field says of itself in ``Annotated[type, limits(…)]``; `rules_of` makes it a rule."""
    return partial(Rule, interval=interval or ANY, flags=flags, **settings)


def rules_of(declared: type) -> Mapping[str, Rule]:
    """The rules of a dataclass's annotated fields by name, with their types and defaults, in their order."""
    hints = get_type_hints(declared, include_extras=True)
    found = {}
    for field in dataclasses.fields(declared):
        hint = hints[field.name]
        for declare in getattr(hint, "__metadata__", ()):
            default = None if field.default is dataclasses.MISSING else field.default
            found[field.name] = declare(kind=_kind(hint.__origin__), default=default)
    return MappingProxyType(found)


def _kind(hint: Any) -> type:
    """The type of a value: of ``int | None`` and ``tuple[int, ...]``, int."""
    inner = [each for each in get_args(hint) if each not in (NoneType, ...)]
    kind: type = inner[0] if inner else hint
    return kind


@lru_cache(maxsize=256)
def _bounds(interval: str) -> Bounds:
    found = _INTERVAL.fullmatch(interval)
    if found is None:
        raise ValueError(f"{interval!r} is not an interval, such as (0, 1]")
    return Bounds(_end(found[2]), _end(found[3]), found[1] == "(", found[4] == ")")


def _end(text: str) -> float:
    # Whole numbers stay exact: the largest int64 is no float.
    return int(text) if text.lstrip("-").isdigit() else float(text)
