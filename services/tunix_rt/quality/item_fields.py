"""Strict reading of the fields of one JSON object: types, limits, and every violation named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tunix_rt.errors import Violations
from tunix_rt.quality.equality import parse_tolerance

MAX_TEXT_CHARS = 50_000
MAX_ALIASES = 100


def strict_json(line: str, *, surrogates: bool = False) -> Any:
    """The JSON value of ``line``.

    Raises ValueError for a duplicate field, NaN, numbers beyond a double, excessive nesting and, unless ``surrogates``
    are allowed, lone surrogates (they have no UTF-8 form).
    """
    try:
        document = json.loads(
            line, parse_float=_WrittenFloat, parse_constant=_refuse_constant, object_pairs_hook=_unique
        )
        if not surrogates:
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return document


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a field occurs twice")
    return document


class _WrittenFloat(float):
    """A float that remembers how it was written, so that 0.1 as a tolerance is exactly one tenth."""

    written: str

    def __new__(cls, written: str) -> _WrittenFloat:
        value = super().__new__(cls, written)
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"{written} is out of range")
        value.written = written
        return value


def _digits(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


@dataclass(frozen=True)
class FieldReader:
    """Reads typed fields of one JSON object and collects violations."""

    document: dict[str, Any]
    violations: Violations

    def text(self, name: str, limit: int, default: str | None = None, *, whole_numbers: bool = False) -> str:
        """The text of a field; with ``whole_numbers`` such a number counts as its digits."""
        value = self.document.get(name)
        if whole_numbers:
            value = _digits(value)
        if value is None:
            self.violations.check(default is not None, name, "is required")
            return default or ""
        if not isinstance(value, str):
            self.violations.add(name, f"must be a string, not {type(value).__name__}")
            return ""
        self.violations.check(bool(value.strip()) or default == "", name, "must not be empty")
        self.violations.check(len(value) <= limit, name, f"has {len(value)} characters; at most {limit} are allowed")
        return value

    def one_of(self, name: str, options: Sequence[str], default: str) -> str:
        value = self.document.get(name, default)
        if not isinstance(value, str) or value not in options:
            self.violations.add(name, f"must be one of {', '.join(options)}")
            return default
        return value

    def tolerance(self, name: str) -> str:
        if name not in self.document:
            return "0"
        value = self.document[name]
        written = value.written if isinstance(value, _WrittenFloat) else str(value)
        exact = (
            parse_tolerance(written) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
        )
        if exact is None:
            self.violations.add(name, "must be a decimal number of at least 0")
            return "0"
        plain = format(Decimal(written).normalize(), "f")
        return plain if exact else "0"

    def texts(self, name: str, *, whole_numbers: bool = False) -> tuple[str, ...]:
        """A list of texts; with ``whole_numbers`` such numbers count as their digits."""
        value = self.document.get(name, [])
        if whole_numbers and isinstance(value, list):
            value = [_digits(each) for each in value]
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self.violations.add(name, "must be a list of strings")
            return ()
        self.violations.check(len(value) <= MAX_ALIASES, name, f"at most {MAX_ALIASES} are allowed")
        for position, text in enumerate(value):
            at = f"{name}[{position}]"
            self.violations.check(bool(text.strip()), at, "must not be empty")
            self.violations.check(len(text) <= MAX_TEXT_CHARS, at, f"at most {MAX_TEXT_CHARS} characters are allowed")
        return tuple(value)

    def object(self, name: str) -> dict[str, Any]:
        value = self.document.get(name, {})
        if not isinstance(value, dict):
            self.violations.add(name, "must be an object")
            return {}
        return value
