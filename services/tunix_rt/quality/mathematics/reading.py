"""What an answer's text says: the words and marks around the mathematics are taken off, the rest is parsed in full."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from tunix_rt.quality.boxes import only_boxed
from tunix_rt.quality.mathematics.nodes import Node, number
from tunix_rt.quality.mathematics.notation import MAX_CHARS, Unreadable, latex
from tunix_rt.quality.mathematics.trees import tree_of
from tunix_rt.quality.numbers import parse_number
from tunix_rt.quality.surface import TEXT_MACROS, fold, plain

EMPTY: Final = Node("set")
_REALS: Final = Node("numbers", text="R")
_WRAPPERS: Final = (
    ("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("__", "__"), ("`", "`"), ("*", "*"),
    ('"', '"'), ("'", "'"),
)  # fmt: skip
_SPACES: Final = (r"\,", r"\;", r"\:", r"\!", r"\ ", r"\\", r"\qquad", r"\quad", "~")
_MAX_WRAPPINGS: Final = 16
_TEXT_MACRO: Final = re.compile(rf"\\(?:{TEXT_MACROS})\*?\s?\{{([^{{}}]*)\}}")
_NO_SOLUTION: Final = re.compile(
    r"(?:there (?:is|are) )?(?:no|none|empty)(?: real| integer| such| valid| possible)*"
    r"(?: solutions?| sets?| roots?| values?| numbers?)?(?: exists?| of \w| x)?|∅|the empty set"
    r"|(?:the (?:equation|system|inequality|problem) )?has no (?:real )?solutions?|null set|inconsistent"
    r"|无解|無解|解なし"
)
_ALL_REALS: Final = re.compile(
    r"(?:x is )?(?:the set of )?(?:all|any|every)(?: the)? (?:real numbers?|reals|real values?(?: of \w)?|real \w)"
    r"(?: \w)?|the real numbers|all of r|全体实数|所有实数|全ての実数|\w ?∈ ?r|\w in r"
)
_SIGNED: Final = {
    "positive": r"(0,\infty)", "negative": r"(-\infty,0)", "non-negative": r"[0,\infty)", "nonnegative": r"[0,\infty)",
    "non-positive": r"(-\infty,0]", "nonpositive": r"(-\infty,0]", "nonzero": r"(-\infty,0)\cup(0,\infty)",
    "non-zero": r"(-\infty,0)\cup(0,\infty)",
}  # fmt: skip
_SIGNED_REALS: Final = re.compile(
    rf"(?:the set of )?(?:all|any|every)?(?: the)? ?(?P<sign>{'|'.join(_SIGNED)})"
    r" (?:real numbers?|reals|real \w)(?: \w)?"
)
_ALL_BUT: Final = re.compile(
    r"(?:the set of )?(?:all|any|every)(?: the)? (?:real numbers?|reals|real values?(?: of \w)?|real \w)(?: \w)?,? "
    r"(?:except|but|excluding|other than)(?: for| when| where| that)?(?: \w ?=)? ?(?P<rest>.+)"
)
_MISSING: Final = {
    "does not exist": "dne", "dne": "dne", "d.n.e": "dne", "doesn't exist": "dne", "undefined": "undefined",
    "not defined": "undefined", "is undefined": "undefined", "infinitely many solutions": "infinitely many",
    "infinitely many": "infinitely many", "infinite solutions": "infinitely many",
}  # fmt: skip
# Words before the answer. A word that denies, limits or changes what follows makes it another statement.
_LEAD: Final = re.compile(
    r"(?:[A-Za-z][A-Za-z',()\- ]{0,120}?\b(?:is|are|equals|equal to|get|gives?|have|obtain|be|answer|solutions?|yields)"
    r"|(?:is|are|equals|so|thus|hence|therefore|then|and|answer|ans|result|value|solution|approximately|exactly"
    r"|just|only|about))\s*[:,]?"
    r"(?:\s+(?:that|exactly|just|simply|equal to|given by))?\s*(?=[^A-Za-z\s]|[A-Za-z](?![A-Za-z])|[a-z]{2,8}\b)",
    re.IGNORECASE,
)
_DENIED: Final = re.compile(
    r"\b(?:not|isn't|aren't|never|neither|nor|no|cannot|can't|wrong|incorrect|false|unless|except|maybe|perhaps"
    r"|more|less|greater|fewer|larger|smaller|least|most|under|over|above|below|between|twice|half|double|root|square"
    r"|squared|cube|cubed|reciprocal|inverse|opposite|negative|minus|plus|times|factorial|log|logarithm|modulo|mod"
    r"|if|whether|why|how|what|unknown|other)\b",
    re.IGNORECASE,
)
# A vector in plain text: <1, 2>.
_ANGLES: Final = re.compile(r"\A<([^<>,]*,[^<>]*)>\Z")
_SEGMENT: Final = re.compile(
    r"\$\$(?P<a>[^$]+)\$\$|(?<!\\)\$(?P<b>(?:[^$\\]|\\.)+)\$|\\\((?P<c>.+?)\\\)|\\\[(?P<d>.+?)\\\]", re.DOTALL
)
_LABEL: Final = re.compile(r"\(?\s*([A-H])\s*\)?(?:\s*[.:]\s*|\s+|~|\\[ ,;])(?P<rest>\S.*)", re.DOTALL)
_LABEL_MACRO: Final = re.compile(
    r"\\(?:text|textbf|mathrm|mathbf)\s?\{\s*\(?([A-H])\)?[.:]?\s*\}\s*(?:[\\~][ ,;:]?|quad)*\s*(?P<rest>.*)", re.DOTALL
)


def read(text: str, *, decimal_comma: bool = False) -> Node | None:
    """The tree of an answer, or None if it is not mathematics that the grammar reads in full."""
    return _read(text, decimal_comma) if len(text) <= MAX_CHARS else None


def labelled(text: str) -> tuple[str, str] | None:
    """Label and rest of an option: "\\textbf{(A)}\\ 3" is ("A", "3"); the rest may be empty."""
    bare = unwrapped(text)
    match = _LABEL_MACRO.fullmatch(bare)
    if match is None:
        match = _LABEL.fullmatch(bare) if bare.startswith("(") else None
    return (match[1], unwrapped(match["rest"])) if match else None


@lru_cache(maxsize=4096)
def _read(text: str, decimal_comma: bool) -> Node | None:
    for candidate in _candidates(text):
        found = _phrase(candidate, decimal_comma)
        if found is None:
            found = _parsed(candidate, decimal_comma)
        if found is not None:
            return found
    for candidate in _candidates(text):
        if (found := _number_in_words(candidate, decimal_comma)) is not None:
            return found
    return None


def _candidates(text: str) -> Iterator[str]:
    """The text itself, without the words before it, and the only formula in a sentence."""
    bare = unwrapped(_one_line(text))
    spoken = unwrapped(_TEXT_MACRO.sub(r" \1 ", bare))
    for stripped in dict.fromkeys([bare, spoken]):
        yield stripped
        for _ in range(3):
            lead = _LEAD.match(stripped)
            if lead is None or _DENIED.search(lead[0]):
                break
            stripped = unwrapped(stripped[lead.end() :])
            yield stripped
    segments = [m["a"] or m["b"] or m["c"] or m["d"] for m in _SEGMENT.finditer(bare)]
    if not segments or _is_money(segments):
        return
    around = _SEGMENT.sub(" ", bare)
    if len(segments) == 1 and not re.search(r"[\d=<>+*/^\\]", around) and not _DENIED.search(around):
        yield unwrapped(segments[0])
    joined = _SEGMENT.sub(lambda m: f" {m['a'] or m['b'] or m['c'] or m['d']} ", bare)
    yield unwrapped(joined)
    lead = _LEAD.match(joined)
    if lead is not None and not _DENIED.search(lead[0]):
        yield unwrapped(joined[lead.end() :])


def _is_money(segments: list[str]) -> bool:
    """Whether the dollar signs are money: "$5, $10" has "5, " between two of them."""
    return any(segment != segment.strip() or segment.endswith(",") for segment in segments)


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip() and not line.strip().startswith("```")]
    if len(lines) <= 1 or "\\begin" in text:
        return " ".join(lines)
    if any(line in ("$$", r"\[", r"\]") for line in lines):
        return " ".join(lines)
    return "; ".join(line.rstrip(";,") for line in lines)


def unwrapped(text: str) -> str:
    """``text`` without the marks around all of it: dollar signs, boxes, emphasis, quotes, a full stop."""
    text = text.strip()
    for _ in range(_MAX_WRAPPINGS):
        before = text
        for _ in range(_MAX_WRAPPINGS):
            text = next((text.removesuffix(space).rstrip() for space in _SPACES if text.endswith(space)), text)
        if not text.endswith(("...", "..", r"\.")):
            text = text.rstrip(" .,;:。，；")
        text = text.removeprefix("≈").removeprefix(r"\approx").lstrip(" =:")
        text = only_boxed(text) or text
        text = _ANGLES.sub(r"(\1)", text)
        for left, right in _WRAPPERS:
            inner = text[len(left) : len(text) - len(right)]
            if (
                len(text) > len(left) + len(right)
                and text.startswith(left)
                and text.endswith(right)
                and left not in inner
            ):
                text = inner.strip()
        if text == before:
            break
    return text


def _phrase(text: str, decimal_comma: bool) -> Node | None:
    """No solution, all real numbers, "does not exist"."""
    if len(text) > 120:
        return None
    words = (
        re.sub(r"\s+", " ", _TEXT_MACRO.sub(r"\1", text).replace("~", " ").replace("\\ ", " ")).strip(" .!").casefold()
    )
    if _NO_SOLUTION.fullmatch(words):
        return EMPTY
    if _ALL_REALS.fullmatch(words):
        return _REALS
    if words in _MISSING:
        return Node("words", text=_MISSING[words])
    if signed := _SIGNED_REALS.fullmatch(words):
        return _parsed(_SIGNED[signed["sign"]], False)
    but = _ALL_BUT.fullmatch(words)
    rest = _parsed(but["rest"], decimal_comma) if but else None
    if rest is None:
        return None
    points = rest.parts if rest.kind in ("list", "set") else (rest,)
    return Node("sets", (_REALS, Node("set", points)), "∖")


def _parsed(text: str, decimal_comma: bool) -> Node | None:
    try:
        found = tree_of(text, decimal_comma=decimal_comma)
        if not re.search(r"\\pm|\\mp|±|∓|\+/-", latex(text)):
            return found
        other = tree_of(text, decimal_comma=decimal_comma, plus=False)
    except (Unreadable, RecursionError):
        return None
    parts = [part for each in (found, other) for part in (each.parts if each.kind in ("list", "set") else (each,))]
    return Node("list", tuple(dict.fromkeys(parts)))


def _number_in_words(text: str, decimal_comma: bool) -> Node | None:
    """ "thirteen", "1.5 million"."""
    value = parse_number(plain(fold(_TEXT_MACRO.sub(r"\1", text))), decimal_comma=decimal_comma)
    return None if value is None else number(value)
