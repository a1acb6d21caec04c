"""The last line of a completion that states no answer in words: the answer is what it says."""

from __future__ import annotations

import re
from itertools import pairwise, takewhile
from typing import Final

from tunix_rt.quality.answer_statements import FIELD, says_nothing
from tunix_rt.quality.number_words import is_number_word
from tunix_rt.quality.turns import is_remark, without_remarks

_BULLET: Final = re.compile(r"(?:[-*•]|(?P<number>\d{1,3})[.)])\s+(?=\S)")
# An option of its own line: several of them together are the answer, or none.
_LABEL_LINE: Final = re.compile(r"(?:[-*•]\s)?\**(?:[(\[][A-J][)\]]|[A-J][.):]|[A-J](?=\**$))\**(?:\s|$)")
_ENVIRONMENT: Final = (
    r"(?:align|aligned|alignat|equation|gather|gathered|split|eqnarray|multline|displaymath|center)\*?"
)
_FRAME: Final = re.compile(rf"\\(?:begin|end)\s?\{{{_ENVIRONMENT}\}}(?:\{{\d\}})?|\$\$|\\[\[\]]|[-*_=]{{3,}}")
_TOTAL: Final = re.compile(r"[\s*_]*(?:(?:grand )?total|sum|(?:final )?answer|result)\b", re.IGNORECASE)


def last_line(lines: list[str], *, several: bool = False) -> str | None:
    """The last of the stripped, non-blank ``lines`` that says something; None if none does.

    ``several``: the answer may be a list, all lines of which are the answer.
    """
    if len(lines) > 1 and len(lines[0]) <= 80 and FIELD.match(lines[1]):
        return _bare(lines[0], False)
    labels = list(takewhile(_LABEL_LINE.match, reversed(lines)))
    if len(labels) > 1:
        return "\n".join(reversed(labels))
    lines = _without_frames(lines)
    listed = _listed(lines)
    if several and len(listed) > 1:
        return "\n".join(listed)
    for line in reversed(lines):
        field = FIELD.match(line)
        if not (is_remark(line) or says_nothing(line) or (field and _is_about_confidence(line))):
            return _bare(line, len(listed) > 1)
    return None


def without_bullet(line: str) -> str:
    """``line``, of an answer's tag, without a bullet before it. A dash before a number is its sign."""
    bullet = _BULLET.match(line)
    if bullet is None or bullet["number"]:
        return line
    rest = line[bullet.end() :]
    first = rest.split(maxsplit=1)[0].strip(".,;:!")
    is_sign = line[0] == "-" and (not first[:1].isalpha() or is_number_word(first.partition("-")[0]))
    return line if is_sign else rest


def _without_frames(lines: list[str]) -> list[str]:
    """``lines`` without the lines that only begin or end a displayed formula, and without its alignment marks."""
    if not any(_FRAME.fullmatch(line) for line in lines):
        return lines
    aligned = any("\\begin" in line for line in lines if _FRAME.fullmatch(line))
    kept = [line for line in lines if not _FRAME.fullmatch(line)]
    return [line.removesuffix("\\\\").replace("&", "").strip() if aligned else line for line in kept] or lines


def _listed(lines: list[str]) -> list[str]:
    """The lines of the list with which ``lines`` end: bullets, or numbers that count up."""
    bullets = [(line, _BULLET.match(line)) for line in lines]
    tail = list(takewhile(lambda each: each[1] is not None, reversed(bullets)))[::-1]
    numbers = [int(match["number"]) if match and match["number"] else None for _, match in tail]
    if any(a != b and (a is None or b is None or b != a + 1) for a, b in pairwise(numbers)):
        return []
    return [line for line, _ in tail]


def _is_about_confidence(line: str) -> bool:
    return re.match(r"[*_#>\s-]{0,10}(?:confiden|certain|confian|probab|score|置信)", line, re.IGNORECASE) is not None


def _bare(line: str, in_list: bool) -> str | None:
    cells = [cell.strip() for cell in line.strip("|").split("|") if cell.strip()] if line.startswith("|") else []
    line = cells[-1] if len(cells) > 1 and _TOTAL.match(cells[0]) else line
    bullet = _BULLET.match(line)
    line = line[bullet.end() :] if bullet and (in_list or not bullet["number"]) else line
    return without_remarks(line).strip() or None
