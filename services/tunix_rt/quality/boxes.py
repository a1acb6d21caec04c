"""LaTeX boxes: ``\\boxed{…}`` and ``\\fbox{…}``. Every function is linear in the length of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
_BRACE = re.compile(r"[{}]")


@dataclass(frozen=True)
class Box:
    """A closed box: where it begins, where its content begins and ends, and where the text goes on."""

    start: int
    inner: int
    inner_end: int

    @property
    def end(self) -> int:
        return self.inner_end + 1

    def content(self, text: str) -> str:
        return text[self.inner : self.inner_end].strip()


def closed_boxes(text: str) -> list[Box]:
    """The closed boxes of ``text`` that are not blank and not inside another, in order.

    An opening that is never closed is passed over; the boxes after it count.
    """
    openings = list(_BOX.finditer(text))
    if not openings:
        return []
    partners = brace_partners(text)
    found: list[Box] = []
    free_from = 0
    for opening in openings:
        close = partners.get(opening.end() - 1)
        if close is None or opening.start() < free_from:
            continue
        free_from = close
        if text[opening.end() : close].strip():
            found.append(Box(opening.start(), opening.end(), close))
    return found


def has_open_box(text: str) -> bool:
    """Whether the last box of ``text`` is never closed."""
    openings = list(_BOX.finditer(text))
    return bool(openings) and brace_partners(text).get(openings[-1].end() - 1) is None


def last_boxed(text: str) -> str | None:
    """The content of the last box of `closed_boxes`, or None."""
    boxes = closed_boxes(text)
    return boxes[-1].content(text) if boxes else None


def only_boxed(text: str) -> str | None:
    """The content of a box that makes up all of ``text``, except dollar signs and a full stop around it; else None.

    Of boxes inside one another it is the content of the innermost that is not blank.
    """
    opening = _BOX.match(text, _after_dollars(text, 0))
    if opening is None:
        return None
    partners = brace_partners(text)
    found, end = None, len(text)
    while opening is not None:
        start, close = opening.end(), partners.get(opening.end() - 1)
        if close is None or text[close + 1 : end].strip("$. \n"):
            break
        first, end = start, close
        while first < end and text[first].isspace():
            first += 1
        while end > first and text[end - 1].isspace():
            end -= 1
        if first == end:
            break
        found = first, end
        opening = _BOX.match(text, _after_dollars(text, first))
    return None if found is None else text[found[0] : found[1]]


def brace_partners(text: str) -> dict[int, int]:
    """Position of the closing brace by that of its opening brace."""
    partners: dict[int, int] = {}
    open_braces: list[int] = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            open_braces.append(brace.start())
        elif open_braces:
            partners[open_braces.pop()] = brace.start()
    return partners


def _after_dollars(text: str, at: int) -> int:
    while at < len(text) and text[at] in "$ \n":
        at += 1
    return at
