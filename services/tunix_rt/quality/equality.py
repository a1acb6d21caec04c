"""Whether an answer equals a reference, by the item's answer type.

text     equal after folding (NFKC with exceptions, see `surface.fold`), ignoring letter case, white space, outer
         punctuation and a leading article
numeric  equal as exact fractions, or within max(abs_tol, rel_tol × |reference|); see `numeric_answers`
choice   the same label; an alias of more than one character is compared as text
set      the same elements in any order
regex    the reference is a pattern that the whole answer must match; see `patterns`
math     equal as text, as numbers, or by `math-verify` (`math_equality`, imported only when needed)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Protocol

from tunix_rt.quality.choices import read_choice
from tunix_rt.quality.locales import without_indian_groups, writes_decimal_comma
from tunix_rt.quality.numbers import parse_number
from tunix_rt.quality.numeric_answers import read_number
from tunix_rt.quality.patterns import PatternError, compile_pattern
from tunix_rt.quality.sets import set_elements
from tunix_rt.quality.surface import collapse, fold, plain, strip_markup
from tunix_rt.quality.texts import texts_equal

ANSWER_TYPES = ("text", "numeric", "choice", "set", "regex", "math")
MAX_ANSWER_CHARS = 50_000


class MathJudge(Protocol):
    """Decides whether two mathematical expressions are equal; implemented by `math_equality.MathVerifier`."""

    def equal(self, expected: str, answer: str) -> bool:
        """True when equal. Raises `Transient` when the verifier cannot run."""
        ...


@dataclass(frozen=True)
class Rule:
    """How answers of one item are compared."""

    answer_type: str = "text"
    abs_tol: Fraction = Fraction(0)
    rel_tol: Fraction = Fraction(0)
    unit: str = ""
    locale: str = ""

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
    if rule.answer_type == "numeric" and _reference_number(rule, reference) is None:
        return f"{reference!r} is not one number"
    if rule.answer_type == "choice" and len(reference.strip()) <= 2 and read_choice(reference) is None:
        return f"{reference!r} is not a choice label (a letter, or a number of at most two digits)"
    if rule.answer_type == "regex":
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
        case "set":
            return _sets_equal(rule, reference, answer)
        case "regex":
            pattern = compile_pattern(reference)
            return pattern.fullmatch(collapse(answer)) or pattern.fullmatch(fold(strip_markup(answer)))
        case "math":
            return _math_equal(rule, reference, answer, math)
        case _:
            return texts_equal(reference, answer)


def _sets_equal(rule: Rule, reference: str, answer: str) -> bool:
    given = set_elements(without_indian_groups(answer, rule.locale), decimal_comma=rule.decimal_comma)
    # A reference may use a decimal point in any locale.
    return any(set_elements(reference, decimal_comma=comma) == given for comma in {rule.decimal_comma, False})


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


def _math_equal(rule: Rule, reference: str, answer: str, math: MathJudge | None) -> bool:
    if texts_equal(reference, answer):
        return True
    expected, given = (_plain_number(rule, text) for text in (reference, answer))
    if expected is not None and given is not None:
        return _within(rule, expected, given)
    if math is None:
        from tunix_rt.quality.math_equality import shared_verifier

        math = shared_verifier()
    return math.equal(reference, fold(answer).rstrip(" ."))


def _plain_number(rule: Rule, text: str) -> Fraction | None:
    """The value of ``text`` if it is one numeral, with or without the item's unit."""
    if rule.unit:
        return _number(rule, text)
    return parse_number(plain(fold(strip_markup(text))), decimal_comma=rule.decimal_comma)
