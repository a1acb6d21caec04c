"""Set answers: the elements of a list, ignoring order and repetition."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

from tunix_rt.quality.mathematics.comparison import same_meaning
from tunix_rt.quality.mathematics.nodes import Node, number
from tunix_rt.quality.mathematics.reading import read
from tunix_rt.quality.numbers import parse_number
from tunix_rt.quality.surface import collapse, fold, plain, strip_markup
from tunix_rt.quality.texts import normal_text

Element = str | Fraction | tuple["Element", ...] | frozenset["Element"]

_EMPTY = {"", "∅", "none", "empty set", "no elements", "nothing", "empty"}
_NO_ELEMENTS = re.compile(
    r"(?:there (?:is|are) )?no (?:real |integer |such |valid |possible )*(?:solutions?|roots?"
    r"|elements?|values?|numbers?)"
    r"(?: exists?)?|\\\{\s*\\\}|\{\s*\}|\[\s*\]|null"
)
_LIST_COMMAS = str.maketrans({"،": ",", "、": ", ", "؛": ";"})
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_OPENING, _CLOSING = "([{", ")]}"
_MAX_DEPTH = 10
_MAX_FORMULAS = 40
_CURRENCY = re.compile(r"([+-]?)\s?(?:US\$|[$€£¥₹₩])\s?(?=[-+.\d])")
_PERCENT = re.compile(r"(.+?)\s?(?:%|percent|per cent)")
_NAMED = re.compile(r"\s*(?P<name>[A-Za-z](?:_\{?\w{1,5}\}?)?)\s*(?:=|:)\s*(?P<value>[^=]+)")
_MEMBER = re.compile(r"\s*\$?\s*[A-Za-z]\s*(?:∈|\\in\b)\s*(?=\\?[{(])")
_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence),?\s+)?(?:(?:the|my|all|these"
    r"|both)\s+)*(?:[^\W\d_]+\s+){0,4}?(?:is|are|answers?|solutions?|roots?|set|list)"
    r"(?:\s+the\s+set)?\s*(?::|(?<=\bis)|(?<=\bare)|(?<=\bset))\s*:?\s*(?=\S)",
    re.IGNORECASE,
)
_NOUN = re.compile(
    r"(?:the\s+)?(?:numbers|values|elements|solutions|roots|integers|primes|factors|divisors)\s+(?=[\d{(±\\-])",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(?:not|no|never|except|neither|nor|isn't|aren't|without|but)\b", re.IGNORECASE)
_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
_PLUS_MINUS = re.compile(r"\s*(?:±|\\pm|\+/-)\s?(?P<value>.+)")
_BUT_NOT = re.compile(r",?\s+(?:but|and)\s+(?:not|never)\s+[^,;]{1,200}$", re.IGNORECASE)
# "and" in the languages that write it between spaces, and in Chinese, Japanese and Korean between numbers.
_AND = r"\s(?:and|&|und|et|y|e|и|та|og|och|en|dan|ve|và|i|oraz|και)\s"
_GLUED_AND = re.compile(r"(?<=[\d})\]])\s?(?:和|与|與|及|と|와|과)\s?(?=[-−√\d{(\[\\])")
_TEXT_AND = re.compile(r"\\(?:text|mbox)\s?\{\s?(,|and|or|und|et|y)\s?\}")
_DOT_SPACE = re.compile(r"(?<=[^\W\d_]\.)\s+")
_FORMULA = re.compile(r"[\\^√π*/+=]|\b(?:pi|sqrt)\b|\d[a-z(]|\b[a-z]\s?-\s?\d|\d\s?-\s?[a-z]\b", re.IGNORECASE)


def set_elements(text: str, *, decimal_comma: bool = False) -> frozenset[Element]:
    """The elements of a list answer: numbers by value, tuples in order, inner sets as sets, the rest by `normal_text`.

    Elements are split at line breaks or semicolons if present, else at commas (at ", " if present, so 1,234 stays
    whole) and at "and" and "&"; never inside brackets.
    """
    body = _without_boxes(_TEXT_AND.sub(r" \1 ", strip_markup(text)))
    if _NO_ELEMENTS.fullmatch(collapse(fold(body)).strip(" .!").casefold()):
        return frozenset()
    body = _MEMBER.sub("", body, count=1) if _MEMBER.match(body) else body
    lead = _LEAD.match(body)
    if lead is not None and not _DENIED.search(lead[0]):
        body = body[lead.end() :]
    body = _NOUN.sub("", body, count=1) if _NOUN.match(body) else body
    body = re.sub(r"^both\s+", "", strip_markup(body), flags=re.IGNORECASE)
    lines = [_BULLET.sub("", line) for line in body.splitlines() if line.strip()]
    pieces = [line.rstrip(",;") for line in lines] if len(lines) > 1 else _split_line(body, decimal_comma)
    elements = [
        element
        for piece in _without_names(pieces)
        for each in _signs(piece)
        if (element := _element(each, decimal_comma)) is not None
    ]
    found = frozenset(elements)
    return frozenset() if len(found) == 1 and found <= _EMPTY else found


def sets_equal(reference: frozenset[Element], answer: frozenset[Element]) -> bool:
    """Whether both have the same elements; formulas are equal as in `mathematics`."""
    left, right = reference - answer, answer - reference
    if not left and not right:
        return True
    if max(len(left), len(right)) > _MAX_FORMULAS:
        return False
    return all(any(_same(a, b) for b in answer) for a in left) and all(
        any(_same(b, a) for b in reference) for a in right
    )


def _same(a: Element, b: Element) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(x == y or _same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, frozenset) and isinstance(b, frozenset):
        return sets_equal(a, b)
    nodes = _formula(a), _formula(b)
    if nodes[0] is None or nodes[1] is None or (nodes[0].kind == "relation") != (nodes[1].kind == "relation"):
        return False
    return same_meaning(nodes[0], nodes[1])


def _formula(element: Element) -> Node | None:
    if isinstance(element, Fraction):
        return number(element)
    return read(element) if isinstance(element, str) and _FORMULA.search(element) else None


def _without_boxes(text: str) -> str:
    """``text`` with boxes replaced by their contents: "\\boxed{2} and \\boxed{3}" is a list."""
    if len(_BOX.findall(text)) > 1:
        # What stands before the first of several boxes is no element.
        before = text[: _BOX.search(text).start()]  # type: ignore[union-attr]
        text = text if re.search(r"\d", before) or _DENIED.search(before) else text[len(before) :]
    for _ in range(20):
        opening = _BOX.search(text)
        if opening is None:
            break
        depth, end = 1, len(text)
        for at in range(opening.end(), len(text)):
            depth += (text[at] == "{") - (text[at] == "}")
            if depth == 0:
                end = at
                break
        text = text[: opening.start()] + text[opening.end() : end] + text[end + 1 :]
    return text


def _without_names(pieces: list[str]) -> list[str]:
    """The values of "x = 2, x = 3", where all name the same unknown; else the pieces."""
    matches = [_NAMED.fullmatch(strip_markup(piece)) for piece in pieces]
    names = {match["name"] for match in matches if match is not None}
    found = [match["value"] for match in matches if match is not None]
    return found if len(names) == 1 and len(found) == len(pieces) else pieces


def _signs(piece: str) -> list[str]:
    """Both values of "±1"."""
    match = _PLUS_MINUS.fullmatch(piece)
    return [piece] if match is None else [match["value"], f"-{match['value']}"]


def _element(piece: str, decimal_comma: bool, depth: int = 0) -> Element | None:
    """The value of one element, or None if it is blank."""
    folded = plain(fold(strip_markup(piece.strip()))).lstrip(" ").rstrip(" .")
    value = _number(folded, decimal_comma)
    if value is not None:
        return value
    inner = _inside_brackets(folded)
    if inner is not None and depth < _MAX_DEPTH:
        parts = _split(inner, decimal_comma)
        if len(parts) > 1:
            values: Iterable[Element | None] = [_element(part, decimal_comma, depth + 1) for part in parts]
            known = [value for value in values if value is not None]
            return frozenset(known) if folded.startswith(("{", "\\{")) else tuple(known)
    if _FORMULA.search(piece):
        return collapse(strip_markup(piece)).rstrip(" .") or None
    return _DOT_SPACE.sub("", normal_text(piece)) or None


def _number(text: str, decimal_comma: bool) -> Fraction | None:
    """A number with or without a currency sign; a percentage is a hundredth."""
    bare = _CURRENCY.sub(r"\1", text, count=1) if _CURRENCY.match(text) else text
    percent = _PERCENT.fullmatch(bare)
    value = parse_number(percent[1] if percent else bare, decimal_comma=decimal_comma)
    return value / 100 if percent and value is not None else value


def _split_line(line: str, decimal_comma: bool) -> list[str]:
    line = plain(fold(_GLUED_AND.sub(", ", line.translate(_LIST_COMMAS)))).rstrip(".").strip()
    line = _BUT_NOT.sub("", line)
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
        # "1,000 and 2,000": commas that only group digits do not separate.
        grouped = re.search(_AND, masked) and not re.search(r",(?!\d{3}(?!\d))", masked)
        comma = r",\s" if re.search(r",\s", masked) or decimal_comma or grouped else ","
        # Of equations "or" gives all solutions; of bare values it leaves open which.
        solutions = re.search(r"=[^=,]*,?\sor\s+\w+\s?=", masked) is not None
        joining, numeric = ("(?:and|or)", r",?\sor\s|") if solutions else ("and", "")
        separator = rf"{comma}(?:{joining}\s)?|{numeric}{_AND}|^and\s"
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
