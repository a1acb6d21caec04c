"""An answer in a JSON object, ``{"reasoning": "…", "answer": 42}``: models are often asked for one."""

from __future__ import annotations

import json
import re
from typing import Any, Final

_MAX_CHARS: Final = 50_000
_KEYS: Final = (
    "finalanswer", "answer", "correctanswer", "ans", "answerletter", "answerchoice", "choice", "correctoption",
    "result",
)  # fmt: skip
_FENCE: Final = re.compile(r"(?:json|python)?\s*\n", re.IGNORECASE)


def answer_of_json(text: str) -> str | None:
    """The value of the answer's key in the JSON object that ``text`` is or ends with, as text; None without one.

    A list becomes its elements, "" says that there is an object whose answer is null or blank.
    """
    text = text.strip()
    if text.endswith("```"):
        text = text[:-3].rstrip()
        opening = text.rfind("```") + 3
        fence = _FENCE.match(text, opening) if opening > 2 else None
        body = text[fence.end() :].strip() if fence else ""
    else:
        body = text if text.startswith("{") else text[text.rfind("\n") + 1 :]
    found = _object(body)
    if found is None:
        return None
    by_key = {re.sub(r"[\W_]", "", str(key)).casefold(): value for key, value in found.items()}
    return next((_written(by_key[key]) for key in _KEYS if key in by_key), None)


def _object(body: str) -> dict[str, Any] | None:
    if not (body.startswith("{") and body.endswith("}")) or len(body) > _MAX_CHARS:
        return None
    # A Python dict in single quotes is meant as the same.
    body = body if '"' in body else body.replace("'", '"')
    try:
        found = json.loads(body, parse_int=str, parse_float=str, strict=False)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _written(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return value.strip()
        case list():
            return ", ".join(_written(each) for each in value)
        case _:
            return ""
