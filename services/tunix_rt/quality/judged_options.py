"""Options that are judged one by one: "A. Wrong, … B. Correct, …" and "A: true, B: false"."""

from __future__ import annotations

import re
from typing import Final

_TRUE: Final = "yes|true|correct|right|valid"
_FALSE: Final = "no|false|incorrect|wrong|invalid"
_JUDGED: Final = re.compile(
    r"(?:^|(?<=[\s,;|]))[*_]{0,2}(?:(?:option|choice|statement)\s)?[(\[]?(?P<label>[A-J])[)\]]?[*_]{0,2}\s?[.:)–—-]?[*_]{0,2}\s{0,3}"
    rf"(?:(?:is|are)\s)?[*_]{{0,2}}(?:(?P<true>{_TRUE})|(?P<false>{_FALSE}))\b(?!\s?(?:or|/|\?))",
    re.IGNORECASE | re.MULTILINE,
)
_JOINED: Final = re.compile(r"(?:&|\b(?:and|or|nor|y|et|und))\s*$", re.IGNORECASE)


def judged_true(text: str) -> frozenset[str] | None:
    """The labels that are called right, if at least two options are judged; None if fewer are, or one twice."""
    found: dict[str, bool] = {}
    for match in _JUDGED.finditer(text):
        label = match["label"]
        # "A and C are correct" judges two at once.
        if not label.isupper() or label in found or _JOINED.search(text[max(0, match.start() - 8) : match.start()]):
            return None
        found[label] = match["true"] is not None
    return frozenset(label for label, right in found.items() if right) if len(found) > 1 else None
