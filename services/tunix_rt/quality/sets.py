"""Set answers: the elements of a list, ignoring order and repetition."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

from tunix_rt.quality.numbers import parse_number
from tunix_rt.quality.surface import fold, plain, strip_markup
from tunix_rt.quality.texts import normal_text

Element = str | Fraction | tuple["Element", ...] | frozenset["Element"]

_EMPTY = {"", "∅", "none", "empty set", "no elements", "nothing", "empty"}
_LIST_COMMAS = str.maketrans({"،": ",", "、": ", ", "؛": ";"})
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_OPENING, _CLOSING = "([{", ")]}"
_MAX_DEPTH = 10


def set_elements(text: str, *, decimal_comma: bool = False) -> frozenset[Element]:
    """The elements of a list answer: numbers by value, tuples in order, inner sets as sets, the rest by `normal_text`.

    Elements are split at line breaks or semicolons if present, else at commas (at ", " if present, so 1,234 stays
    whole) and at "and" and "&"; never inside brackets.
    """
    body = strip_markup(text)
    lines = [_BULLET.sub("", line) for line in body.splitlines() if line.strip()]
    pieces = [line.rstrip(",;") for line in lines] if len(lines) > 1 else _split_line(body, decimal_comma)
    elements = [element for piece in pieces if (element := _element(piece, decimal_comma)) is not None]
    found = frozenset(elements)
    return frozenset() if len(found) == 1 and found <= _EMPTY else found


def _element(piece: str, decimal_comma: bool, depth: int = 0) -> Element | None:
    """The value of one element, or None if it is blank."""
    folded = plain(fold(strip_markup(piece.strip()))).strip(" .")
    number = parse_number(folded, decimal_comma=decimal_comma)
    if number is not None:
        return number
    inner = _inside_brackets(folded)
    if inner is not None and depth < _MAX_DEPTH:
        parts = _split(inner, decimal_comma)
        if len(parts) > 1:
            values: Iterable[Element | None] = [_element(part, decimal_comma, depth + 1) for part in parts]
            known = [value for value in values if value is not None]
            return frozenset(known) if folded.startswith(("{", "\\{")) else tuple(known)
    return normal_text(piece) or None


def _split_line(line: str, decimal_comma: bool) -> list[str]:
    line = plain(fold(line.translate(_LIST_COMMAS))).rstrip(".").strip()
    inner = _inside_brackets(line)
    return _split(line if inner is None else inner, decimal_comma)


def _inside_brackets(text: str) -> str | None:
    """The text inside the pair of brackets that encloses all of ``text``, or None."""
    bare = text.replace("\\{", "{").replace("\\}", "}")
    if len(bare) < 2 or bare[0] not in _OPENING or bare[-1] not in _CLOSING:
        return None
    depth = 0
    for at, character in enumerate(bare):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0:
            return bare[1:-1].strip() if at == len(bare) - 1 else None
    return None


def _split(line: str, decimal_comma: bool) -> list[str]:
    """``line`` at its separators outside brackets."""
    masked = _masked(line)
    if ";" in masked:
        separator = r";"
    else:
        comma = r",\s" if re.search(r",\s", masked) or decimal_comma else ","
        separator = rf"{comma}(?:and\s)?|\s(?:and|&|und)\s|^and\s"
    pieces, start = [], 0
    for match in re.finditer(separator, masked):
        pieces.append(line[start : match.start()])
        start = match.end()
    return [piece for piece in [*pieces, line[start:]] if piece.strip()]


def _masked(line: str) -> str:
    """``line`` with everything inside brackets replaced by dots, same length."""
    depth, masked = 0, []
    for character in line:
        depth -= character in _CLOSING and depth > 0
        masked.append("." if depth else character)
        depth += character in _OPENING
    return "".join(masked)
