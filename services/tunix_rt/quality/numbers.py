"""Reading one number, exactly: text in, `Fraction` out, no float in between.

Owns the grammar of numerals. Knows nothing of sentences around a number (`numeric_answers` does) nor of items.
"""

from __future__ import annotations

import re
from fractions import Fraction

# Locales that write 1.234,5 where others write 1,234.5.
DECIMAL_COMMA_LOCALES = frozenset(
    [
        "cs",
        "da",
        "de",
        "el",
        "es",
        "fi",
        "fr",
        "hr",
        "hu",
        "id",
        "it",
        "nb",
        "nl",
        "no",
        "pl",
        "pt",
        "ro",
        "ru",
        "sk",
        "sl",
        "sv",
        "tr",
        "uk",
    ]
)

_MAX_DIGITS = 1000
_MAX_EXPONENT = 400
_TIMES_TEN_TO = r"\s?(?:[x×*·]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?"
_EXPONENT = (
    r"(?:e(?P<exponent>[+-]?\d+)"
    rf"|{_TIMES_TEN_TO}(?:\{{(?P<power_braced>[+-]?\d+)\}}|(?P<power>[+-]?\d+)))"
)


def _decimal_pattern(group: str, point: str) -> str:
    """A plain decimal: digits in one piece, or in groups of three by ONE kind of separator, then perhaps a fraction."""
    grouped = rf"\d{{1,3}}(?P<separator>[{group}' _])\d{{3}}(?:(?P=separator)\d{{3}})*"
    return rf"(?P<whole>{grouped}|\d+)?(?:{point}(?P<part>\d*))?"


_SCIENTIFIC = {
    comma: re.compile(rf"(?P<sign>[+-]?)\s?{_decimal_pattern(*separators)}(?:{_EXPONENT})?", re.IGNORECASE)
    for comma, separators in {False: (",", r"\."), True: (r".", ",")}.items()
}
_POWER = re.compile(r"(?P<sign>[+-]?)\s?(?P<base>\d+)\s?(?:\^|\*\*)\s?\{?(?P<power>[+-]?\d+)\}?")
_MIXED = re.compile(r"(?P<sign>[+-]?)\s?(?P<whole>\d+)(?: | and )(?P<top>\d+)\s?/\s?(?P<bottom>\d+)")
_RATIO = re.compile(r"(?P<sign>[+-]?)\s?(?P<top>\d+(?:\.\d+)?)\s?/\s?(?P<sign2>-?)(?P<bottom>\d+(?:\.\d+)?)")
_LATEX_FRACTION = re.compile(
    r"(?P<sign>[+-]?)\s?(?P<whole>\d*)\s?\\[dt]?frac\s?\{\s?(?P<top>-?\d+)\s?\}\s?\{\s?(?P<bottom>\d+)\s?\}"
)

_ONES = {
    word: value
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
_TENS = {
    word: 10 * i
    for i, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2)
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
SCALE_WORDS = {
    **{word: Fraction(value) for word, value in _SCALES.items()},
    "hundred": Fraction(100),
    "dozen": Fraction(12),
}


def parse_number(text: str, *, decimal_comma: bool = False) -> Fraction | None:
    """The exact value of ``text`` if all of it is one numeral, else None.

    ``text`` is folded already (`surface.fold`). Accepts signs, thousands separators in proper groups of three,
    decimals, scientific notation, powers of integers, fractions, mixed numbers, LaTeX fractions, a scale word after
    the numeral, and English number words. ``decimal_comma`` reads 1.234,5 instead of 1,234.5. Numbers with more than
    1000 digits are not read.
    """
    text = text.strip()
    if not text or len(text) > _MAX_DIGITS:
        return None
    for reader in (_mixed, _ratio, _latex_fraction, _power):
        value = reader(text)
        if value is not None:
            return value
    value = _scientific(text, decimal_comma)
    if value is not None:
        return value
    value = _number_words(text)
    if value is not None:
        return value
    head, _, scale = text.rpartition(" ")
    if not head or scale.casefold() not in SCALE_WORDS:
        return None
    value = parse_number(head, decimal_comma=decimal_comma)
    return None if value is None else value * SCALE_WORDS[scale.casefold()]


def _scientific(text: str, decimal_comma: bool) -> Fraction | None:
    match = _SCIENTIFIC[decimal_comma].fullmatch(text)
    if match is None or not (match["whole"] or match["part"]):
        return None
    whole = re.sub(r"\D", "", match["whole"] or "0")
    part = match["part"] or ""
    exponent = int(match["exponent"] or match["power"] or match["power_braced"] or 0)
    if abs(exponent) > _MAX_EXPONENT:
        return None
    value = Fraction(int(whole + part), 10 ** len(part)) * Fraction(10) ** exponent
    return -value if match["sign"] == "-" else value


def _power(text: str) -> Fraction | None:
    match = _POWER.fullmatch(text)
    if match is None or abs(int(match["power"])) > _MAX_EXPONENT or len(match["base"]) > 20:
        return None
    base, power = Fraction(int(match["base"])), int(match["power"])
    if base == 0 and power < 0:
        return None
    return -(base**power) if match["sign"] == "-" else base**power


def _mixed(text: str) -> Fraction | None:
    match = _MIXED.fullmatch(text)
    if match is None or int(match["bottom"]) == 0 or int(match["top"]) >= int(match["bottom"]):
        return None
    value = int(match["whole"]) + Fraction(int(match["top"]), int(match["bottom"]))
    return -value if match["sign"] == "-" else value


def _ratio(text: str) -> Fraction | None:
    match = _RATIO.fullmatch(text)
    if match is None or Fraction(match["bottom"]) == 0:
        return None
    value = Fraction(match["top"]) / Fraction(match["bottom"])
    return -value if (match["sign"] == "-") != (match["sign2"] == "-") else value


def _latex_fraction(text: str) -> Fraction | None:
    match = _LATEX_FRACTION.fullmatch(text)
    if match is None or int(match["bottom"]) == 0:
        return None
    value = int(match["whole"] or 0) + Fraction(int(match["top"]), int(match["bottom"]))
    return -value if match["sign"] == "-" else value


def _number_words(text: str) -> Fraction | None:
    words = re.sub(r"[-\s]+", " ", text.casefold()).strip().split()
    negative = bool(words) and words[0] in ("minus", "negative")
    words = words[1:] if negative else words
    if not words or len(words) > 30 or words[0] == "and" or words[-1] == "and":
        return None
    total = current = 0
    # What may follow: after "twenty" a digit from one to nine; after a digit only a scale.
    last = ""
    previous_scale = 10**15
    for word in words:
        if word == "and":
            if last not in ("hundred", "scale"):
                return None
            last = "and"
        elif word in _ONES:
            if last in ("ones",) or (last == "tens" and not 1 <= _ONES[word] <= 9):
                return None
            current, last = current + _ONES[word], "ones"
        elif word in _TENS:
            if last in ("ones", "tens"):
                return None
            current, last = current + _TENS[word], "tens"
        elif word == "hundred":
            if last not in ("ones", "") or not (1 <= current <= 9 or (current == 0 and not total)):
                return None
            current, last = max(current, 1) * 100, "hundred"
        elif word in _SCALES and _SCALES[word] < previous_scale and (current or not last):
            total, current, last, previous_scale = total + max(current, 1) * _SCALES[word], 0, "scale", _SCALES[word]
        else:
            return None
    return Fraction(-(total + current) if negative else total + current)
