"""Keys that group equal answers of an item's samples, for majority votes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tunix_rt.contract.digests import canonical_json
from tunix_rt.quality.booleans import read_boolean
from tunix_rt.quality.choices import read_choice, read_choices
from tunix_rt.quality.dates import read_date
from tunix_rt.quality.equality import MAX_ANSWER_CHARS, Rule
from tunix_rt.quality.locales import without_indian_groups
from tunix_rt.quality.numbers import parse_number
from tunix_rt.quality.numeric_answers import read_number
from tunix_rt.quality.sets import Element, set_elements
from tunix_rt.quality.surface import collapse, fold, plain, strip_markup
from tunix_rt.quality.texts import normal_text
from tunix_rt.quality.times import read_time


def answer_key(rule: Rule, answer: str | None) -> str:
    """A key that equal answers to an item share; "" for no answer.

    numeric: the exact number, "" unless exactly one is stated; choice: the label, else the text; choices: the labels,
    else the text; set: the elements; regex: the folded text; math: the number, else the text; date, time and boolean:
    what is stated; text: the normalised text. Equality that depends on the reference (a tolerance, an alias, a pattern,
    algebra) does not merge votes.
    """
    if answer is None or not answer.strip() or len(answer) > MAX_ANSWER_CHARS:
        return ""
    match rule.answer_type:
        case "numeric":
            number = _number(rule, answer)
            return "" if number is None else _written(number)
        case "choice":
            return read_choice(answer) or normal_text(answer)
        case "choices":
            return ",".join(sorted(read_choices(answer) or ())) or normal_text(answer)
        case "set":
            elements = set_elements(without_indian_groups(answer, rule.locale), decimal_comma=rule.decimal_comma)
            return canonical_json(_written_element(elements))
        case "regex":
            return collapse(fold(strip_markup(answer)))
        case "math":
            number = _plain_number(rule, answer)
            return normal_text(answer) if number is None else _written(number)
        case "date":
            return str(read_date(answer, locale=rule.locale) or "")
        case "time":
            return str(read_time(answer) or "")
        case "boolean":
            said = read_boolean(answer)
            return "" if said is None else str(said)
        case _:
            return normal_text(answer)


def _number(rule: Rule, answer: str) -> Fraction | None:
    ungrouped = without_indian_groups(answer, rule.locale)
    return read_number(ungrouped, unit=rule.unit, decimal_comma=rule.decimal_comma)


def _plain_number(rule: Rule, answer: str) -> Fraction | None:
    if rule.unit:
        return _number(rule, answer)
    return parse_number(plain(fold(strip_markup(answer))), decimal_comma=rule.decimal_comma)


def _written_element(element: Element) -> list[Any]:
    match element:
        case Fraction():
            return ["number", _written(element)]
        case tuple():
            return ["tuple", *map(_written_element, element)]
        case frozenset():
            return ["set", *sorted(map(_written_element, element), key=canonical_json)]
        case _:
            return ["text", element]


def _written(number: Fraction) -> str:
    """Hexadecimal, because Python refuses to format very long numbers in decimal."""
    return f"{number.numerator:#x}/{number.denominator:#x}"
