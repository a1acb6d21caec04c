"""Checks a document against one of the published JSON schemas, without a library: evidence is checked by the base
install.

Semantics are those of JSON Schema 2020-12. A keyword that `schemas` does not use is an error, not ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_ANNOTATIONS = frozenset({"$schema", "$id", "$defs", "title", "description"})


def violations(document: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """What of ``document`` does not fit ``schema``, each with its path ("scorecard.slices[0].value must be …")."""
    return _check(document, schema, schema, "")


def _check(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], path: str) -> Iterator[str]:
    for keyword, rule in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        if keyword == "$ref":
            yield from _check(value, root["$defs"][rule.removeprefix("#/$defs/")], root, path)
        elif keyword in ("properties", "required", "additionalProperties"):
            if isinstance(value, dict):
                yield from _OBJECT[keyword](value, rule, schema, root, path)
        elif keyword == "items":
            if isinstance(value, list):
                for index, item in enumerate(value):
                    yield from _check(item, rule, root, f"{path}[{index}]")
        elif keyword == "anyOf":
            if not any(next(_check(value, part, root, path), None) is None for part in rule):
                yield f"{path or 'it'} fits none of the {len(rule)} forms that it may have"
        elif (problem := _scalar_problem(keyword, rule, value)) is not None:
            yield f"{path or 'it'} {problem}"


def _scalar_problem(keyword: str, rule: Any, value: Any) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match keyword:
        case "type":
            wanted = [rule] if isinstance(rule, str) else rule
            return None if any(_is(value, name) for name in wanted) else f"must be {' or '.join(wanted)}"
        case "enum":
            return None if any(_equal(value, one) for one in rule) else f"must be one of {', '.join(map(str, rule))}"
        case "const":
            return None if _equal(value, rule) else f"must be {rule!r}"
        case "pattern":
            fits = not isinstance(value, str) or re.search(rule, value) is not None
            return None if fits else f"must match {rule}"
        case "minimum":
            return None if not number or value >= rule else f"must be at least {rule}"
        case "maximum":
            return None if not number or value <= rule else f"must be at most {rule}"
        case _:
            raise ValueError(f"schema keyword {keyword!r} is not known")


def _equal(value: Any, rule: Any) -> bool:
    return bool(value == rule) and isinstance(value, bool) == isinstance(rule, bool)


def _is(value: Any, name: str) -> bool:
    if name == "integer":
        return isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _properties(
    value: dict[str, Any], rule: Any, schema: Mapping[str, Any], root: Mapping[str, Any], path: str
) -> Iterator[str]:
    for name, part in rule.items():
        if name in value:
            yield from _check(value[name], part, root, f"{path}.{name}" if path else name)


def _required(
    value: dict[str, Any], rule: Any, schema: Mapping[str, Any], root: Mapping[str, Any], path: str
) -> Iterator[str]:
    for name in rule:
        if name not in value:
            yield f"{path}.{name} is missing" if path else f"{name} is missing"


def _additional(
    value: dict[str, Any], rule: Any, schema: Mapping[str, Any], root: Mapping[str, Any], path: str
) -> Iterator[str]:
    for name in value.keys() - schema.get("properties", {}).keys():
        at = f"{path}.{name}" if path else name
        if rule is False:
            yield f"{at} is not a field"
        elif isinstance(rule, Mapping):
            yield from _check(value[name], rule, root, at)


_OBJECT = {"properties": _properties, "required": _required, "additionalProperties": _additional}
