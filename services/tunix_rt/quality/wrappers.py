"""Tags around a reply that say nothing of the answer: ``<response>``, ``<output>``, ``<div>``, ``<br>``."""

from __future__ import annotations

import re
from typing import Final

_TAG: Final = re.compile(
    r"<(?P<closing>/?)(?P<name>response|output|result|results|reply|final_response|conclusion|summary|div|p|ul|ol|li"
    r"|section|article|body|html|h[1-6])>|<br\s?/?>",
    re.IGNORECASE,
)


def without_wrappers(text: str) -> str:
    """``text`` with a line break instead of each tag of a pair, and of ``<br>``. A single tag stays: it may be meant.

    Linear: each closing tag takes the last open one of its name.
    """
    opened: dict[str, list[re.Match[str]]] = {}
    paired: list[tuple[int, int]] = []
    for tag in _TAG.finditer(text):
        if tag["name"] is None:
            paired.append(tag.span())
        elif not tag["closing"]:
            opened.setdefault(tag["name"].lower(), []).append(tag)
        elif opened.get(tag["name"].lower()):
            paired += [opened[tag["name"].lower()].pop().span(), tag.span()]
    pieces, at = [], 0
    for start, end in sorted(paired):
        pieces.append(text[at:start])
        at = end
    found = "\n".join([*pieces, text[at:]])
    return found if found.strip() else text
