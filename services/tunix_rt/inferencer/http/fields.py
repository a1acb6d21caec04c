"""Reads typed fields of a JSON object and collects violations.

``null`` is treated as absent, as in OpenAI's API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from tunix_rt.contract.rules import Rule
from tunix_rt.errors import FieldViolation, InvalidInput, Violations


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a request's body. Raises `InvalidInput`."""
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput([FieldViolation("body", f"is not JSON: {error}")]) from error
    if not isinstance(document, dict):
        raise InvalidInput([FieldViolation("body", "must be a JSON object")])
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def is_text(value: object) -> bool:
    """Whether ``value`` is a string with a UTF-8 form: JSON can contain lone surrogates."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Fields:
    """The fields of one object. Read each one, then call `refuse_others`."""

    def __init__(self, document: Mapping[str, Any], bad: Violations) -> None:
        self._document = document
        self._known: set[str] = set()
        self.bad = bad

    def take(self, name: str) -> Any:
        """The raw value; None if absent."""
        self._known.add(name)
        return self._document.get(name)

    def text(self, name: str, *, required: bool = False) -> str:
        value = self.take(name)
        if value is None and not required:
            return ""
        ok = self.bad.check(is_text(value) and value != "", name, "must be a non-empty string")
        return str(value) if ok else ""

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.take(name)
        if value is None:
            return default
        return self.bad.check(isinstance(value, bool), name, "must be true or false") and bool(value)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self.take(name)
        if value is None:
            return default
        ok = is_integer(value) and low <= value <= high
        return int(value) if self.bad.check(ok, name, f"must be an integer in [{low}, {high}]") else default

    def number(self, name: str, default: float, rule: Rule) -> float:
        """A number that satisfies ``rule``."""
        value = self.take(name)
        if value is None:
            return default
        rule.check(value, name, self.bad)
        return float(value) if rule.problem(value) is None else default

    def only(self, name: str, *allowed: object) -> None:
        """An unsupported field: accepted if absent, or with an ``allowed`` value that has no effect."""
        value = self.take(name)
        accepted = value is None or any(type(value) is type(other) and value == other for other in allowed)
        self.bad.check(accepted, name, "is not supported; omit it")

    def refuse_others(self) -> None:
        for name in self._document.keys() - self._known:
            self.bad.add(name, "unknown field")
