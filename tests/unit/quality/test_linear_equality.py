"""Hostile answers: no type takes more than linear time, none ends the process, and what is too large is wrong."""

from __future__ import annotations

import time

import pytest

from tunix_rt.quality.equality import Rule, answers_equal

_REFERENCES = {
    "math": "x^2",
    "numeric": "42",
    "set": "1, 2",
    "date": "1929-02-11",
    "time": "17:30",
    "boolean": "yes",
    "text": "yes",
    "choice": "B",
    "choices": "A, B",
}
_PIECES = (
    "9", "(", "{", "\\frac{", "<", "a ", "the answer is ", "$", "$1 ", "1,", "1 and ", "A1",
    "\\text{", "x", "-", "±", "1/", "!", ".", "0.3", "so, ", "or ", "not ", "<<", "1\n", "共18",
    "\\pm 1, ", "|", "2^", "sin ", "=1", "[1,", "(1,2),", "m ",
    "but not a ", "A. Wrong ", "(A) yes, ", "<1,", "\\underline{", "\\color{red}", "\\;", "no es ", "1st ", "a_{1}",
    "&lt;", "<sup>2</sup>", "3 y ", "is ", "the a ", "? ", ": yes", "x (A) ",
)  # fmt: skip


@pytest.mark.parametrize("answer_type", sorted(_REFERENCES))
def test_fifty_thousand_characters_take_seconds_at_most(answer_type: str) -> None:
    started = time.thread_time()
    for piece in _PIECES:
        for length in (2_000, 50_000):
            answers_equal(Rule(answer_type), [_REFERENCES[answer_type]], (piece * length)[:length])
    assert time.thread_time() - started < 30


@pytest.mark.parametrize(
    "huge",
    [
        "9^{9^{9^{9}}}",
        "10^{10^{10}}",
        "1000000!",
        "\\binom{10^9}{5\\cdot 10^8}",
        "2^{2^{2^{2^{2^{2}}}}}",
        "\\sin(10^{10^{6}})",
        "e^{e^{e^{e}}}",
        "((((2^{1000})^{1000})^{1000})^{1000})",
        "+".join(["x^{999}"] * 200),
        "*".join(["(x+1)"] * 300),
        "3" + "!" * 500,
    ],
)
def test_huge_value_is_not_three_and_costs_little(huge: str) -> None:
    started = time.thread_time()
    assert not answers_equal(Rule("math"), ["3"], huge)
    assert time.thread_time() - started < 10
