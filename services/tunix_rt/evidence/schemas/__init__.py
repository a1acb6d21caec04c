"""The published JSON schemas (2020-12) of evidence's files, one file each; of ``.jsonl`` files, of each line.

In the files, ``{"$ref": "contract:hyperparameters"}`` stands for the schema of that rule table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

from tunix_rt.contract.generation import GENERATION_RULES
from tunix_rt.contract.hyperparameters import FLAT_RULES, LORA_RULES, MESH_RULES
from tunix_rt.contract.rules import Rule
from tunix_rt.errors import NotFound

_SUFFIX = ".schema.json"
_TYPES: Final = {bool: "boolean", int: "integer", float: "number", str: "string"}


@cache
def names() -> tuple[str, ...]:
    """What there is a schema of: the stems of evidence's files."""
    found = (file.name for file in resources.files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


@cache
def schema(name: str) -> dict[str, Any]:
    """The schema of the file with that stem ("run_manifest"). Raises `NotFound` naming those that there are."""
    if name not in names():
        raise NotFound(f"unknown schema {name!r}; expected one of {', '.join(names())}")
    text = resources.files(__name__).joinpath(name + _SUFFIX).read_text("utf-8")
    document: dict[str, Any] = _resolved(json.loads(text))
    return document


def _resolved(value: Any) -> Any:
    """``value`` with the schemas of rule tables in the place of references to them."""
    if isinstance(value, list):
        return [_resolved(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {name: _resolved(each) for name, each in value.items()}
    reference = found.pop("$ref", None)
    return found if reference is None else _tables()[reference.removeprefix("contract:")] | found


def _tables() -> dict[str, dict[str, Any]]:
    nested = {"lora": _object(_properties(LORA_RULES)), "mesh": _object(_properties(MESH_RULES))}
    return {
        "hyperparameters": _object(_properties(FLAT_RULES) | nested),
        "generation": _object(_properties(GENERATION_RULES)),
    }


def _properties(rules: Mapping[str, Rule]) -> dict[str, Any]:
    """Types only: evidence records what was requested under the rules of its time."""
    types = {name: {"type": _TYPES[rule.kind]} for name, rule in rules.items()}
    return {
        name: types[name] if rule.entries is None else {"type": "array", "items": types[name]}
        for name, rule in rules.items()
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [], "additionalProperties": False}
