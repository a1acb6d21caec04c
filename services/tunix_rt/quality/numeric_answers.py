"""The number that an answer states, if it states exactly one. Every value is an exact `Fraction`.

Notation is made plain first (`answer_notation`). There are two passes. The strict pass reads the whole answer as a
number with an optional unit. The loose pass removes remarks, splits at "=", and takes the value if all numbers agree;
an answer that hedges ("41 or 42", "not 42", "more than 42") states no number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from tunix_rt.quality.answer_notation import boxes, plain_notation
from tunix_rt.quality.boxes import only_boxed
from tunix_rt.quality.number_qualifiers import CHANGED_AFTER, CHANGED_BEFORE, HEDGE, PART
from tunix_rt.quality.number_words import SCALE_WORDS, is_number_word
from tunix_rt.quality.numbers import parse_number
from tunix_rt.quality.surface import fold, plain, strip_markup
from tunix_rt.quality.units import canonical_unit, is_known_unit, units_agree

_MAX_CHARS = 2_000
_CURRENCY = (
    r"(?:US\$|AU?\$|CA?\$|NZ\$|HK\$|R\$|[$€£¥₹₩₽₺₪₫₴₦]|(?:USD|EUR|GBP|JPY|CNY|INR|CHF|AUD|CAD|KRW|RUB)(?=\s?[-+]?\d))"
)
_LEAD = re.compile(
    r"^(?:(?:so|thus|therefore|hence|then),?\s+)?"
    r"(?:(?:it|that|this|which|there)(?:\s+(?:is|are)|'s)|"
    r"(?:(?:the|my|our)\s+)?(?:final\s+|correct\s+)?(?:answer|result|solution|value|total)?\s*(?:is|are|equals|=|:))\s*"
    r"(?:about|approximately|exactly|just|only)?\s*",
    re.IGNORECASE,
)
# Signs of a formula: a number in it is not the value of the formula.
_FORMULA = re.compile(r"\\[a-z]|[√∛π∞∑∫∏^|]|\b(?:pi|sqrt|log|ln|exp|sin|cos|tan|infinity)\b", re.IGNORECASE)
# Letters that are written without spaces: a number next to one stands by itself.
_CJK = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_CJK_NUMERALS = "一二三四五六七八九十百千万萬億亿兆零两兩"
_GLUED = re.compile(rf"(?:st|nd|rd|th|x)\w*|(?![mgshld]\b|[NJWVACF]\b|[{_CJK}])[^\W\d_]\b|\(")
_REMARK = re.compile(r"(?<!\d)\(([^()]*)\)|\[([^\[\]]*)\]")
_NUMBER = (
    r"(?:\d+\s\d+\s?/\s?\d+|\d+\s?/\s?\d+|[1-9]\d{0,2}(?:[,'_]\d{3})+(?![\d])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?:e[+-]?\d+|\s?[x×*]\s?10\s?\^\s?\{?[+-]?\d+\}?|\^[+-]?\d+)?"
)
_COMMA_NUMBER = r"(?:[1-9]\d{0,2}(?:[.'_]\d{3})+(?!\d)(?:,\d+)?|\d+(?:,\d+)?)(?:e[+-]?\d+)?"


def _token(number: str) -> re.Pattern[str]:
    scales = "|".join(SCALE_WORDS)
    return re.compile(
        rf"(?<![^\W{_CJK}])(?<![{_CJK_NUMERALS}])(?<![.,/^+-])(?P<sign>[+-]\s?)?(?:(?P<currency>{_CURRENCY})\s?(?P<sign2>-)?)?(?P<number>{number})(?:\s(?P<scale>{scales})s?\b)?",
        re.IGNORECASE,
    )


_TOKENS = {False: _token(_NUMBER), True: _token(_COMMA_NUMBER)}
_OPERATOR_BEFORE_BOX = re.compile(
    r"(?:[-+*/^<>≤≥≠~≈±{]|\\(?:times|cdot|div|frac|sqrt|leq?|geq?|neq?|pm|approx|gt|lt)\b)[\s$({]{0,5}\\(?:boxed|fbox)\b"
)
_PERCENT = re.compile(
    r"\s?(?:%|(?:percent|per cent|pct|prozent|pour ?cent|por ?ciento|por ?cento|procent|процент\w*)\b)", re.IGNORECASE
)
_PART_OR_NUMBER = re.compile(rf"(?:.*th|.*ths|{PART}|dozens?|pairs?|or|and|to|less|plus|minus)", re.IGNORECASE)
_OPERATOR = re.compile(
    r"^\s*(?:[+\-*/×÷·^:!x]|\\times|\\div|,\s?\d|(?:to|times|plus|minus|and)\s+[$€£]?\d)", re.IGNORECASE
)
_WORDS_AFTER = re.compile(
    r"^\s?(sq\.?\s\w+|(?:square|cubic)\s\w+|[^\W\d_°%]+(?:\s(?:per"
    r"|an?)\s[^\W\d_]+)?(?:/[^\W\d_]+)?(?:\^[23])?|°\s?[CF]?"
    r"|[$€£¥₹₩₽¢‰'\"])",
    re.I,
)
_CONCLUDING = re.compile(
    r"(?:^|[,;.:!]\s?)(?:and\s)?(?:so|therefore|thus|hence|consequently|altogether|in total|in all"
    r"|which (?:gives|means|makes|leaves|is)(?: that)?|giving|making|leaving|for a (?:grand )?total of|a total of"
    r"|所以|因此|故|于是|よって|したがって|따라서)(?:\s|,|(?<=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]))",
    re.IGNORECASE,
)
_REASON = re.compile(r"\b(?:since|because|given that|da|weil|car|parce que|porque)\b", re.IGNORECASE)
_OR = re.compile(r"\s*[,;(]?\s*\b(?:or|i\.e\.|that is|equivalently|which is|also written)\b,?\s*", re.IGNORECASE)
_ARROW = re.compile(r"^(?:[-=]{1,2}>|→|⇒|∴)\s?")
# "the 10th term": not the number that is stated.
_ORDINAL = re.compile(r"(?<![\w.,/-])\d+(?:-?(?:st|nd|rd|th))\b(?=\s[^\W\d_])", re.IGNORECASE)
_CJK_NEGATED = re.compile(r"(?:负|負|マイナス|음수|마이너스)\s?(?=\d)")
_NEGATED = re.compile(r"(?:^|(?<=[=:]\s)|(?<=\bis\s))(?:minus|negative)\s+(?=[$€£¥]?\.?\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Quantity:
    """A value as written; ``unit`` is canonical, and empty when none of the known ones follows the number."""

    value: Fraction
    unit: str


def read_number(answer: str, *, unit: str = "", decimal_comma: bool = False) -> Fraction | None:
    """The number that ``answer`` states, or None when it states none or several.

    ``unit`` is the item's unit. It may follow the number or be missing; another known unit makes a different answer,
    and "%" and currency signs are units. Without ``unit`` a percentage is a hundredth, and other units are ignored.
    """
    answer = only_boxed(answer) or answer
    if len(answer) > _MAX_CHARS:
        return None
    found = _read(answer, unit, decimal_comma)
    if found is not None:
        return found
    # A box says which of several numbers is the answer, unless the words around it deny that.
    boxed = {value for box in boxes(answer) if (value := _read(box, unit, decimal_comma)) is not None}
    denied = HEDGE.search(_outside_boxes(answer)) or _OPERATOR_BEFORE_BOX.search(answer)
    return boxed.pop() if len(boxed) == 1 and not denied else None


def _outside_boxes(answer: str) -> str:
    for box in boxes(answer):
        answer = answer.replace(box, " ")
    return re.sub(r"\\(?:boxed|fbox)\s?\{\s*\}|[<>]", " ", answer)


def _read(answer: str, unit: str, decimal_comma: bool) -> Fraction | None:
    text = plain_notation(strip_markup(answer))
    text = fold(strip_markup(text))
    if not text:
        return None
    text = _NEGATED.sub("-", plain(strip_markup(text)))
    text = re.sub(r"^-\s?(?=[a-z])", "minus ", _ARROW.sub("", text), flags=re.IGNORECASE)
    text = _CJK_NEGATED.sub("-", text).removeprefix("...").strip()
    if text.endswith("..."):
        return None
    text = _without_brackets(text.rstrip(".!;,:").strip())
    wanted = canonical_unit(unit) if unit else ""
    strict = _strict(text, wanted, decimal_comma)
    if strict is not None:
        return strict
    for statement in (text, _conclusion(text)):
        found = _alternatives(statement, wanted, decimal_comma) if statement else None
        if found is None and statement:
            found = _loose(statement, wanted, decimal_comma)
        if found is not None:
            return found
    return None


def _conclusion(text: str) -> str:
    """The last clause that begins with "so", "for a total of" and the like; "" if there is none.

    Only where what comes before does not hedge.
    """
    starts = list(_CONCLUDING.finditer(text))
    if not starts or HEDGE.search(text):
        return ""
    return text[starts[-1].end() :].strip(" ,:")


def _alternatives(text: str, unit: str, decimal_comma: bool) -> Fraction | None:
    """The value of "18 or 18.0" and "3/4, or 75%", all of which are the same; of "18, since …" the first."""
    reason = _REASON.search(text)
    if reason is not None:
        head = text[: reason.start()].strip(" ,;")
        return _strict(_LEAD.sub("", head), unit, decimal_comma) if not HEDGE.search(head) else None
    parts = [part.strip(" ,;()") for part in _OR.split(_LEAD.sub("", text))]
    if not 1 < len(parts) <= 4:
        return None
    values = {_strict(part, unit, decimal_comma) for part in parts}
    return values.pop() if len(values) == 1 else None


def _without_brackets(text: str) -> str:
    """``text`` without enclosing brackets, also behind a sign: "(42)", "-(1/2)"."""
    while match := re.fullmatch(r"([+-]?)\s?(?:\(([^()]*|\(.*\))\)|\[([^\[\]]*)\])", text):
        inner = (match[2] or match[3] or "").strip()
        if match[1] and not inner[:1].isdigit():
            break
        text = match[1] + inner
    return text


def _strict(text: str, unit: str, decimal_comma: bool) -> Fraction | None:
    bare = _without_currency(text, unit)
    if bare is None:
        return None
    value = parse_number(bare, decimal_comma=decimal_comma)
    if value is not None:
        return value
    percent = _PERCENT.search(bare)
    if percent and percent.end() == len(bare):
        value = parse_number(bare[: percent.start()], decimal_comma=decimal_comma)
        return None if value is None else _in_percent(value, unit)
    head, _, tail = bare.rpartition(" ")
    if head and not (unit and units_agree(unit, canonical_unit(tail))) and CHANGED_AFTER.match(tail):
        return None
    if head and unit and (space := _before_unit(bare, unit)):
        return parse_number(bare[:space].strip(), decimal_comma=decimal_comma)
    if head and (units_agree(unit, canonical_unit(tail)) if unit else is_known_unit(tail) or _is_counted(head, tail)):
        return parse_number(head, decimal_comma=decimal_comma)
    return None


def _before_unit(text: str, unit: str) -> int:
    """Where the item's unit of several words begins at the end of ``text`` ("m s^-2"); 0 if it does not."""
    start = re.search(r"\s(?=[^\W\d_µ°])", text)
    return start.start() if start and units_agree(unit, canonical_unit(text[start.end() :])) else 0


def _is_counted(head: str, noun: str) -> bool:
    """Whether "five apples" counts a noun, as opposed to fractions ("two thirds") or more number words."""
    return head[-1:].isalpha() and noun.isalpha() and not _PART_OR_NUMBER.fullmatch(noun) and not is_number_word(noun)


def _without_currency(text: str, unit: str) -> str | None:
    """``text`` without a leading currency sign; None if it is not the item's currency."""
    match = re.match(rf"(?P<sign>[+-]?)\s?(?P<currency>{_CURRENCY})\s?", text, re.IGNORECASE)
    if match is None:
        return text
    if unit and canonical_unit(match["currency"]) != unit:
        return None
    return match["sign"] + text[match.end() :]


def _in_percent(value: Fraction, unit: str) -> Fraction | None:
    if unit == "%":
        return value
    return None if unit else value / 100


def _loose(text: str, unit: str, decimal_comma: bool) -> Fraction | None:
    text = _LEAD.sub("", _without_remarks(text))
    if not text or HEDGE.search(text) or CHANGED_BEFORE.search(text):
        return None
    segments = re.split(r"=|≈", text)
    values: set[Fraction] = set()
    for position, segment in enumerate(segments):
        last = position == len(segments) - 1
        if not last:
            segment = _last_clause(segment)
            if re.search(r"[;]|,\s|\band\b", segment):
                return None
        found = _single(segment, unit, decimal_comma)
        if found is not None:
            values.add(found)
    return values.pop() if len(values) == 1 else None


def _last_clause(segment: str) -> str:
    """ "Therefore, x" and "In total, there are 10 + 8" from where their formula begins: no number comes before."""
    before, comma, after = segment.rpartition(", ")
    return after if comma and not re.search(r"\d", before) else segment


def _without_remarks(text: str) -> str:
    """``text`` without bracketed remarks, except remarks that hedge."""
    for _ in range(5):
        shorter = _REMARK.sub(lambda m: m[0] if HEDGE.search(m[1] or m[2] or "") else " ", text)
        if shorter == text:
            break
        text = shorter if shorter.strip() else re.sub(r"[()\[\]]", " ", text)
    return re.sub(r"\s+", " ", text).strip()


def _single(segment: str, unit: str, decimal_comma: bool) -> Fraction | None:
    """The value of a segment if all its numbers agree."""
    segment = segment.strip().rstrip(".!;,").strip()
    strict = _strict(segment, unit, decimal_comma)
    if strict is not None:
        return strict
    segment = _ORDINAL.sub("", segment)
    tokens = list(_TOKENS[decimal_comma].finditer(segment))
    if re.search(r"\d", _TOKENS[decimal_comma].sub(" ", segment)) or _FORMULA.search(
        _TOKENS[decimal_comma].sub(" ", segment)
    ):
        # Digits that are part of a name or a formula.
        return None
    values = set()
    for match in tokens:
        value = _token_value(match, segment, unit, decimal_comma)
        if value is None:
            return None
        values.add(value)
    return values.pop() if len(values) == 1 else None


def _token_value(match: re.Match[str], segment: str, unit: str, decimal_comma: bool) -> Fraction | None:
    value = parse_number(match["number"], decimal_comma=decimal_comma)
    # A sign followed by a space, after words, may be a dash or a subtraction.
    if value is None or ((match["sign"] or "").endswith(" ") and segment[: match.start()].strip()):
        return None
    if (match["sign"] or "").startswith("-") != (match["sign2"] == "-"):
        value = -value
    if match["scale"]:
        value *= SCALE_WORDS[match["scale"].casefold()]
    if match["currency"] and unit and canonical_unit(match["currency"].strip()) != unit:
        return None
    after = segment[match.end() :]
    percent = _PERCENT.match(after)
    if percent:
        return _in_percent(value, unit)
    words = _WORDS_AFTER.match(after)
    agreed = bool(words and unit and units_agree(unit, canonical_unit(words[1])))
    if not agreed and CHANGED_AFTER.match(after):
        return None
    # An adjacent digit or letter ("3rd", "0x1F", "1,23") or an operator: not a plain number.
    rate = re.match(r"\s?/\s?[^\W\d_]{2,}", after)
    if re.match(r"[\d.,_]\d|\d|['’]\d", after) or (_OPERATOR.match(after) and not rate) or _GLUED.match(after):
        return None
    return None if words and unit and not agreed and is_known_unit(words[1]) else value
