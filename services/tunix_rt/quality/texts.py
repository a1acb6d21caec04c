"""Text answers: when two of them are equal."""

from __future__ import annotations

import re

from tunix_rt.quality.booleans import read_boolean
from tunix_rt.quality.negations import NEGATION
from tunix_rt.quality.surface import collapse, fold, strip_markup

_LEADING_ARTICLE = re.compile(r"(?:the|an?)\s+(?=\S)")
_TRAILING = ".,;:!?…。、！？"
_PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "<": ">", "「": "」", "『": "』", "【": "】", "《": "》"}
# Each strips every markup; honest answers need two.
_MAX_ROUNDS = 8
_YES_NO = {"yes": True, "no": False, "true": True, "false": False}
_OPENING_WORD = re.compile(r"(\w+)(?:\s*(?:[,;:!]|\.(?!\s*\d))|\s+[—-]\s+)")
# "Answer: Paris", "The answer is Paris", "- Paris", "_Paris_".
_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence),?\s+)?(?:the\s+|my\s+)?(?:(?:final|correct|right|best)\s+)*"
    r"(?:answer|antwort|réponse|respuesta|risposta|resposta|答案|回答|答え|정답|ответ)\s*(?:is\b\s*:?|[:：]|是|は)\s*(?=\S)"
    r"|[-•–]\s+(?=[^\W\d])",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"(?:(?:the|its|their|his|her|die|der|das|la|le|les|el|los|las|il|lo|o|a|os|as)\s(?:[^\s.!?;:,\"]+\s){1,12}?|it\s|that\s)"
    r"(?:is|are|was|were|ist|sind|war|est|sont|était|es|son|era|fue|è|sono|é|são|foi)\s(?:called\s|named\s)?|(?:it|that)'s\s",
    re.IGNORECASE,
)
# What the words before an answer say of it when they do not state it.
_UNSURE = re.compile(
    rf"{NEGATION}|\b(?:no|wrong|incorrect|false|might|may|could|would|should|maybe|perhaps|possibl[ey]|possibility|probably"
    r"|likely|seems|guess|option|candidate|choice|myth|misconception|mistake|opposite|example|if|unless|or|what|who|which"
    r"|where|whether|how|why|second|third|next|previous|before|after)\b",
    re.IGNORECASE,
)
_UNDERLINED = re.compile(r"_([^_]+)_")
# Outside of words these are part of the answer: 5! is a factorial, 3... goes on.
_MEANT_ENDING = re.compile(r"[\d)\]}]\s?(?:!+|\.{2,}|…)\W*$")
# In words a subscript is typography: CO₂ is CO2. In numbers it is not; `fold` keeps it separate.
_FORMULA_SUBSCRIPT = re.compile(r"(?<=[A-Za-z)}])_\s?\{?\s?(\d{1,3})\s?\}?")
_SUBSCRIPTS = {0x2080 + digit: str(digit) for digit in range(10)}


def normal_text(text: str) -> str:
    """The normal form of a text answer: folded, lower case, no outer punctuation or markup, no leading article.

    Signs, per-cent and currency marks are kept: they are part of the answer. An answer of punctuation only is kept
    unchanged.
    """
    formula = _FORMULA_SUBSCRIPT.sub(r"\1", text) if "$" in text or "\\" in text else text
    folded = fold(strip_markup(formula.translate(_SUBSCRIPTS))).casefold()
    if underlined := _UNDERLINED.fullmatch(folded):
        folded = underlined[1].strip()
    stripped = folded if _MEANT_ENDING.search(folded) else _strip_outer(folded) or folded
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
    """Whether two text answers are equal by `normal_text`, with or without "The answer is" before them, and with or
    without the question's words: "The capital of France is Paris". What "I think" is no statement.

    An expected yes, no, true or false also equals a sentence that says it and does not contradict it. A question does
    not state what it asks.
    """
    wanted, given = normal_text(expected), normal_text(answer)
    if _asks(answer) and not _asks(expected) and given not in ("", "?"):
        return False
    if wanted == given:
        return True
    said = fold(strip_markup(answer.translate(_SUBSCRIPTS)))
    stated = _LEAD.match(said)
    if stated and wanted == normal_text(said[stated.end() :]):
        return True
    sentence = _SENTENCE.match(said)
    if sentence and not _UNSURE.search(sentence[0]) and wanted == normal_text(said[sentence.end() :]):
        return True
    if wanted not in _YES_NO:
        return False
    rest = given[stated.end() :] if (stated := _LEAD.match(given)) else given
    first = _OPENING_WORD.match(rest)
    return first is not None and first[1] == wanted and read_boolean(rest) is _YES_NO[wanted]


def _asks(text: str) -> bool:
    return fold(text).rstrip("\"'*_`)]} ").endswith("?")
