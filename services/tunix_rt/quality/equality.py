"""Whether an answer equals a reference, by the item's answer type.

text     equal after folding (NFKC with exceptions, see `surface.fold`), ignoring letter case, white space, outer
         punctuation and a leading article
numeric  equal as exact fractions, or within max(abs_tol, rel_tol × |reference|); see `numeric_answers`
choice   the same label; an alias of more than one character is compared as text
choices  the same labels, all of them, in any order
set      the same elements in any order; see `sets`
regex    the reference is a pattern that the whole answer must match; see `patterns`
math     the same value, set, pair, equation, …; see `math_answers`
date     the same date, to the same precision; see `dates`
time     the same time of day; see `times`
boolean  yes or true against no or false, in many languages; see `booleans`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from tunix_rt.quality.booleans import read_boolean
from tunix_rt.quality.choices import names_several, read_choice, read_choices
from tunix_rt.quality.dates import read_date
from tunix_rt.quality.locales import without_indian_groups, writes_decimal_comma
from tunix_rt.quality.math_answers import MathJudge, math_equal, math_reference_problem
from tunix_rt.quality.numeric_answers import read_number
from tunix_rt.quality.patterns import PatternError, compile_pattern
from tunix_rt.quality.sets import set_elements, sets_equal
from tunix_rt.quality.surface import collapse, fold, strip_markup
from tunix_rt.quality.texts import texts_equal
from tunix_rt.quality.times import read_time

__all__ = [
    "ANSWER_TYPES",
    "MAX_ANSWER_CHARS",
    "MathJudge",
    "Rule",
    "answers_equal",
    "parse_tolerance",
    "reference_problem",
]

ANSWER_TYPES = ("text", "numeric", "choice", "set", "regex", "math", "date", "time", "boolean", "choices")
MAX_ANSWER_CHARS = 50_000


@dataclass(frozen=True)
class Rule:
    """How answers of one item are compared."""

    answer_type: str = "text"
    abs_tol: Fraction = Fraction(0)
    rel_tol: Fraction = Fraction(0)
    unit: str = ""
    locale: str = ""
    inequalities: bool = True
    """Whether an inequality equals the interval that it describes (math)."""

    @property
    def decimal_comma(self) -> bool:
        """Whether the item's locale writes 1.234,5."""
        return writes_decimal_comma(self.locale)


def answers_equal(rule: Rule, references: Sequence[str], answer: str, math: MathJudge | None = None) -> bool:
    """Whether ``answer`` equals any of ``references`` (the expected answer and its aliases).

    ``math`` is used for type ``math`` only; None: the shared verifier of this process.
    """
    if not answer.strip() or len(answer) > MAX_ANSWER_CHARS:
        return False
    return any(_equal(rule, reference, answer, math) for reference in references)


def reference_problem(rule: Rule, reference: str) -> str | None:
    """Why ``reference`` is unusable with its answer type, or None."""
    if not reference.strip():
        return "must not be empty"
    match rule.answer_type:
        case "numeric" if _reference_number(rule, reference) is None:
            return _numeric_problem(rule, reference)
        case "choice" if len(reference.strip()) <= 2 and read_choice(reference) is None:
            return f"{reference!r} is not a choice label (a letter, or a number of at most two digits)"
        case "choice" if names_several(reference):
            return f"{reference!r} is several labels; use answer_type choices if all of them are to be picked"
        case "choices" if read_choices(reference) is None:
            return f"{reference!r} is not a list of labels, such as A, C, D"
        case "regex":
            return _pattern_problem(reference)
        case "math" if not (rule.unit and _reference_number(rule, reference) is not None):
            return math_reference_problem(reference)
        case "date" if read_date(reference, locale=rule.locale) is None:
            return (
                f"{reference!r} is not one date; write 1929-02-11, or set meta.locale if the month's place is unclear"
            )
        case "time" if read_time(reference) is None:
            return f"{reference!r} is not a time of day, such as 17:30 or 5:30 p.m."
        case "boolean" if read_boolean(reference) is None:
            return f"{reference!r} is neither yes (true) nor no (false)"
        case _:
            return None


def alias_problem(rule: Rule, reference: str, alias: str) -> str | None:
    """Why ``alias`` cannot stand beside the expected answer: it is the opposite, or another option; or None."""
    said = read_boolean(reference)
    if rule.answer_type in ("boolean", "text") and said is not None and read_boolean(alias) is (not said):
        return f"{alias!r} is the opposite of expected_answer: every answer would be right"
    if rule.answer_type == "choice":
        labels = [read_choice(each) if len(each.strip()) <= 2 else None for each in (reference, alias)]
        if None not in labels and labels[0] != labels[1]:
            return f"{alias!r} is another option than {reference!r}; list several right labels as answers of their own"
    return None


def _numeric_problem(rule: Rule, reference: str) -> str:
    if rule.unit and read_number(reference) is not None:
        return f"{reference!r} has another unit than {rule.unit!r}, the item's"
    return f"{reference!r} is not one number"


def _pattern_problem(reference: str) -> str | None:
    try:
        compile_pattern(reference)
    except PatternError as error:
        return f"{reference!r} is not a supported pattern: {error}"
    return None


def parse_tolerance(text: str) -> Fraction | None:
    """A tolerance's decimal text as an exact fraction of at least 0, or None."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    if not value.is_finite() or value < 0 or abs(value.adjusted()) > 100:
        return None
    return Fraction(value)


def _equal(rule: Rule, reference: str, answer: str, math: MathJudge | None) -> bool:
    match rule.answer_type:
        case "numeric":
            return _numbers_equal(rule, reference, answer)
        case "choice":
            label = read_choice(reference) if len(reference.strip()) <= 2 else None
            return texts_equal(reference, answer) if label is None else read_choice(answer) == label
        case "choices":
            labels = read_choices(reference)
            return labels is not None and read_choices(answer) == labels
        case "set":
            return _sets_equal(rule, reference, answer)
        case "regex":
            pattern = compile_pattern(reference)
            return pattern.fullmatch(collapse(answer)) or pattern.fullmatch(fold(strip_markup(answer)))
        case "math":
            return _math_equal(rule, reference, answer, math)
        case "date":
            return _dates_equal(rule, reference, answer)
        case "time":
            return _times_equal(reference, answer)
        case "boolean":
            return (said := read_boolean(answer)) is not None and said == read_boolean(reference)
        case _:
            return texts_equal(reference, answer)


def _sets_equal(rule: Rule, reference: str, answer: str) -> bool:
    given = set_elements(without_indian_groups(answer, rule.locale), decimal_comma=rule.decimal_comma)
    # A reference may use a decimal point in any locale.
    return any(sets_equal(set_elements(reference, decimal_comma=comma), given) for comma in {rule.decimal_comma, False})


def _number(rule: Rule, text: str) -> Fraction | None:
    ungrouped = without_indian_groups(text[:MAX_ANSWER_CHARS], rule.locale)
    return read_number(ungrouped, unit=rule.unit, decimal_comma=rule.decimal_comma)


def _reference_number(rule: Rule, text: str) -> Fraction | None:
    """A reference is read in the item's locale, or else with a decimal point."""
    value = _number(rule, text)
    return read_number(text, unit=rule.unit) if value is None and rule.decimal_comma else value


def _numbers_equal(rule: Rule, reference: str, answer: str) -> bool:
    expected, given = _reference_number(rule, reference), _number(rule, answer)
    return expected is not None and given is not None and _within(rule, expected, given)


def _within(rule: Rule, expected: Fraction, given: Fraction) -> bool:
    return abs(given - expected) <= max(rule.abs_tol, rule.rel_tol * abs(expected))


def _times_equal(reference: str, answer: str) -> bool:
    expected, given = read_time(reference), read_time(answer)
    return expected is not None and given is not None and expected.same_as(given)


def _dates_equal(rule: Rule, reference: str, answer: str) -> bool:
    expected, given = (read_date(text, locale=rule.locale) for text in (reference, answer))
    return expected is not None and expected == given


def _math_equal(rule: Rule, reference: str, answer: str, math: MathJudge | None) -> bool:
    if rule.unit:
        expected, given = _reference_number(rule, reference), _number(rule, answer)
        if expected is not None and given is not None:
            return _within(rule, expected, given)
    return math_equal(
        reference,
        answer,
        math,
        tolerance=(rule.abs_tol, rule.rel_tol),
        decimal_comma=rule.decimal_comma,
        inequalities=rule.inequalities,
    )
