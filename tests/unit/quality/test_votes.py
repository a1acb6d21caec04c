"""Which answers of repeated samples are one answer."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tunix_rt.quality.equality import Rule
from tunix_rt.quality.votes import answer_key


@pytest.mark.parametrize(
    ("rule", "answers"),
    [
        (Rule("numeric"), ["1/2", "0.5", "½", "50 %", "x = 0.5", "**0.50**"]),
        (Rule("numeric"), ["1,234", "1234", "1234 (after step 3)"]),
        (Rule("numeric", locale="de"), ["1.234,5", "1234,5"]),
        (Rule("numeric", unit="%"), ["50 %", "50"]),
        (Rule("choice"), ["B", "(b)", "B. Paris", "The answer is B"]),
        (Rule("choice"), ["Paris", "paris."]),
        (Rule("set"), ["1, 2, x", "{x, 2, 1}", "2, 1, X, x"]),
        (Rule("set"), ["(1, 2), {3, x}", "{x, 3}; (1, 2)"]),
        (Rule("regex"), ["Ab  c", "**Ab c**"]),
        (Rule("math"), ["1/2", "0.5", "$\\frac{1}{2}$"]),
        (Rule("math"), ["x + 1", "X + 1"]),
        (Rule("text"), ["The Hague", "the hague.", "Hague"]),
    ],
)
def test_answers_that_say_the_same_share_a_key(rule: Rule, answers: list[str]) -> None:
    assert len({answer_key(rule, answer) for answer in answers}) == 1
    assert answer_key(rule, answers[0]) != ""


@pytest.mark.parametrize(
    ("rule", "one", "other"),
    [
        (Rule("numeric"), "5", "-5"),
        (Rule("numeric"), "50 %", "50"),
        (Rule("numeric", abs_tol=Fraction(1)), "41", "42"),
        (Rule("choice"), "A", "B"),
        (Rule("set"), "1, 2", "1, 2, 3"),
        (Rule("set"), "none", "none, 1"),
        (Rule("set"), "(1, 2), 3", "(2, 1), 3"),
        (Rule("regex"), "Ab", "ab"),
        (Rule("math"), "10", "a"),
        (Rule("math"), "x + 1", "1 + x"),
        (Rule("text"), "Paris", "Lyon"),
    ],
)
def test_answers_that_differ_have_keys_of_their_own(rule: Rule, one: str, other: str) -> None:
    keys = answer_key(rule, one), answer_key(rule, other)
    assert keys[0] != keys[1]
    assert "" not in keys


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        (Rule("text"), None),
        (Rule("text"), "  \n"),
        (Rule("text"), "x" * 50_001),
        (Rule("numeric"), "41 or 42"),
        (Rule("numeric"), "I do not know"),
    ],
)
def test_no_usable_answer_has_no_key(rule: Rule, answer: str | None) -> None:
    assert answer_key(rule, answer) == ""


def test_numbers_too_long_to_be_written_in_decimal_have_keys() -> None:
    # 12345678901234567890^300 has 5,728 digits; Python writes at most 4,300.
    keys = {answer_key(Rule("numeric"), f"12345678901234567890^{power}") for power in (299, 300)}
    assert len(keys - {""}) == 2
