"""Parses one numeral exactly: text to `Fraction`, without floats. `numeric_answers` handles the words around it."""

from __future__ import annotations

import re
from fractions import Fraction

from tunix_rt.quality.number_words import SCALE_WORDS, parse_number_words

_MAX_DIGITS = 1000
_MAX_EXPONENT = 400
_TIMES_TEN_TO = r"\s?(?:[x×*·]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?"
_EXPONENT = (
    r"(?:e(?P<exponent>[+-]?\d+)"
    rf"|{_TIMES_TEN_TO}(?:\{{(?P<power_braced>[+-]?\d+)\}}|(?P<power>[+-]?\d+)))"
)


def _decimal_pattern(group: str, point: str) -> str:
    """A plain decimal: ungrouped digits, or groups of three with ONE kind of separator, and an optional fraction."""
    grouped = rf"[1-9]\d{{0,2}}(?P<separator>[{group}' _])\d{{3}}(?:(?P=separator)\d{{3}})*"
    return rf"(?P<whole>{grouped}|\d+)?(?:{point}(?P<part>\d*))?"


_SCIENTIFIC = {
    comma: re.compile(rf"(?P<sign>[+-]?)\s?{_decimal_pattern(*separators)}(?:{_EXPONENT})?", re.IGNORECASE)
    for comma, separators in {False: (",", r"\."), True: (r".", ",")}.items()
}
_POWER = re.compile(r"(?P<sign>[+-]?)\s?(?P<base>\d+)\s?(?:\^|\*\*)\s?\{?(?P<power>[+-]?\d+)\}?")
_MIXED = re.compile(r"(?P<sign>[+-]?)\s?(?P<whole>\d+)(?: | and )(?P<top>\d+)\s?/\s?(?P<bottom>\d+)")
_RATIO = re.compile(r"(?P<sign>[+-]?)\s?(?P<top>\d+(?:\.\d+)?)\s?/\s?(?P<sign2>-?)(?P<bottom>\d+(?:\.\d+)?)")
_LATEX_FRACTION = re.compile(
    r"(?P<sign>[+-]?)\s?(?P<whole>\d*)\s?\\[cdt]?frac\s?(?:\{\s?(?P<top>-?\d+)\s?\}\s?\{\s?(?P<bottom>-?\d+)\s?\}"
    r"|\s?(?P<top1>\d)\s?(?P<bottom1>\d))"
)


def parse_number(text: str, *, decimal_comma: bool = False) -> Fraction | None:
    """The exact value of ``text`` if it is one numeral, else None.

    ``text`` must be folded (`surface.fold`). Accepts signs, thousands separators in proper groups of three, decimals,
    scientific notation, powers of integers, fractions, mixed numbers, LaTeX fractions, a scale word after the numeral,
    and English number words. ``decimal_comma`` reads 1.234,5 instead of 1,234.5. Numbers with more than 1000 digits are
    rejected.
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
    value = parse_number_words(text)
    if value is not None:
        return value
    head, _, scale = text.rpartition(" ")
    if scale.casefold() not in SCALE_WORDS:
        return None
    value = Fraction(1) if head.casefold() in ("", "a") else parse_number(head, decimal_comma=decimal_comma)
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
    if match is None:
        return None
    top, bottom = int(match["top"] or match["top1"]), int(match["bottom"] or match["bottom1"])
    if bottom == 0 or (match["whole"] and Fraction(top, bottom) < 0):
        return None
    value = int(match["whole"] or 0) + Fraction(top, bottom)
    return -value if match["sign"] == "-" else value
