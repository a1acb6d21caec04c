"""Text answers: when two of them are equal."""

from __future__ import annotations

import re

from tunix_rt.quality.surface import collapse, fold, strip_markup

_LEADING_ARTICLE = re.compile(r"(?:the|an?)\s+(?=\S)")
_TRAILING = ".,;:!?…。、！？"
_PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "<": ">", "「": "」", "『": "』", "【": "】", "《": "》"}
# Each strips every markup; honest answers need two.
_MAX_ROUNDS = 8
_YES_NO = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
_OPENING_WORD = re.compile(r"(\w+)\s*(?:[,;:!—-]|\.(?!\s*\d))")
# In words a subscript is typography: CO₂ is CO2. In numbers it is not; `fold` keeps it separate.
_SUBSCRIPTS = {0x2080 + digit: str(digit) for digit in range(10)}


def normal_text(text: str) -> str:
    """The normal form of a text answer: folded, lower case, no outer punctuation or markup, no leading article.

    Signs, per-cent and currency marks are kept: they are part of the answer. An answer of punctuation only is kept
    unchanged.
    """
    folded = fold(strip_markup(text.translate(_SUBSCRIPTS))).casefold()
    stripped = _strip_outer(folded) or folded
    return collapse(_LEADING_ARTICLE.sub("", stripped, count=1) if _LEADING_ARTICLE.match(stripped) else stripped)


def _strip_outer(text: str) -> str:
    for _ in range(_MAX_ROUNDS):
        before = text
        text = strip_markup(text).strip().rstrip(_TRAILING).lstrip("¿¡").strip()
        if len(text) >= 2 and _PAIRS.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
            text = text[1:-1].strip()
        if text == before:
            break
    return text


def texts_equal(expected: str, answer: str) -> bool:
    """Whether two text answers are equal by `normal_text`.

    An expected yes, no, true or false also equals a sentence that begins with it and does not contain its opposite. A
    question does not state what it asks.
    """
    wanted, given = normal_text(expected), normal_text(answer)
    if _asks(answer) and not _asks(expected) and given not in ("", "?"):
        return False
    if wanted == given:
        return True
    if wanted in _YES_NO:
        first = _OPENING_WORD.match(given)
        words = set(re.findall(r"\w+", given))
        return first is not None and first[1] == wanted and _YES_NO[wanted] not in words
    return False


def _asks(text: str) -> bool:
    return fold(text).rstrip("\"'*_`)]} ").endswith("?")
