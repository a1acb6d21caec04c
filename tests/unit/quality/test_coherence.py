"""Sub-scores of a trace, computed by hand."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.quality.coherence import ends_in_loop, trace_coherence
from tunix_rt.traces.recipes import build


def test_all_recipes_are_coherent_by_their_own_measure() -> None:
    for trace in [*build("golden-v2"), *build("arith-v1", 1500)]:
        reasoning = "\n".join(step.content for step in trace.steps)
        found = trace_coherence(trace.prompt, reasoning, trace.final_answer)
        assert found.score == 1.0, (trace, found)


def test_false_equation_lowers_the_share_that_holds() -> None:
    found = trace_coherence("What is 7 + 5 + 3?", "7 + 5 = 12\n12 + 3 = 16", "16")
    assert found.equations == 0.5
    assert found.false_statements == ("12 + 3 = 16",)
    assert (found.carried, found.conclusion, found.no_loop) == (1.0, 1.0, 1.0)
    assert found.score == 3.5 / 4


def test_number_out_of_nowhere_is_not_carried() -> None:
    found = trace_coherence("What is 7 + 5?", "77 + 5 = 82", "82")
    assert found.carried == 0.5  # 5 is in the prompt, 77 is not


def test_conclusion_must_be_what_the_reasoning_ends_in() -> None:
    assert trace_coherence("What is 7 + 5?", "7 + 5 = 12", "13").conclusion == 0.0
    assert trace_coherence("What is 27 + 15?", "ones 7+5=12\ntens 2+1+1=4", "42").conclusion == 1.0
    assert trace_coherence("What is 27 + 15?", "ones 7+5=12\ntens 2+1+1=4", "43").conclusion == 0.0
    assert trace_coherence("Who?", "So it was Ann.", "Ann").conclusion == 1.0
    assert trace_coherence("Who?", "So it was Ann.", "Ben").conclusion == 0.0
    assert trace_coherence("Who?", "So it was Ann.", None).conclusion is None


@pytest.mark.parametrize(
    ("line", "holds"),
    [
        ("5 > 3", 1.0),
        ("5 < 3", 0.0),
        ("2 × 3 + 4 = 10", 1.0),
        ("10 - 2 × 3 = 24", 0.0),
        ("40 × 150 ÷ 100 = 60", 1.0),
        ("1/2 + 1/4 = 3/4", 1.0),
        ("3 ≥ 3", 1.0),
        ("2 x 3 = 6", 1.0),
        ("1,000 + 1 = 1,001", 1.0),
        ("2 + 3 = 5 = 6", 0.5),
        ("10% = 0.1", 1.0),
        ("3 - 5 = -2", 1.0),
        ("-3 + 5 = 2", 1.0),
        ("-5 < 3", 1.0),
        ("5 - -3 = 8", 1.0),
        ("5 - (-3) = 8", 1.0),
        ("(2 + 3) × 4 = 20", 1.0),
        ("2 + 3 × 4 = 20", 0.0),
        ("(so 2 + 3 = 5)", 1.0),
        ("3² + 4² = 25", 1.0),
        ("2^3 = 9", 0.0),
        ("-2² = -4", 1.0),
        ("- 2 + 3 = 5", 1.0),  # a bullet
        ("1) 2 + 3 = 5", 1.0),
        ("Step 1: 2 + 3 = 5.", 1.0),
        ("17 = 3 × 5 + 2", 1.0),
        ("20 × 50% = 10", 1.0),
        ("1 1/2 + 1/2 = 2", 1.0),
        ("$5 + $3 = $9", 0.0),
        ("0.1 + 0.2 = 0.3", 1.0),
        ("10 / 3 = 3.33", 0.0),
        ("３ + ٤ = 7", 1.0),
    ],
)
def test_statement_is_evaluated_exactly(line: str, holds: float) -> None:
    assert trace_coherence("", line, None).equations == holds


@pytest.mark.parametrize(
    "line",
    [
        "x + 2 = 5",
        "2x + 3 = 7",
        "50% of 20 = 10",
        "√16 = 4",
        "sqrt 16 = 4",
        "log 100 = 2",
        "17 mod 5 = 2",
        "17 % 5 = 2",
        "7 // 2 = 3",
        "f(2) = 4",
        "f(2 + 3) = 4",
        "5! = 120",
        "|−3| = 3",
        "12:30 + 1 = 13:30",
        "2:3 = 4:6",
        "10 / 3 = 3.33...",
        "10 / 3 ≈ 3.33",
        "2 + 3 ≠ 6",
        "2 + 3 != 6",
        "2 + 3 => 6",
        "100 - 25% = 75",
        "6/2(1+2) = 9",
        "5 km = 5000 m",
        "1 / 0 = 0",
        "2^10000 = 1",
        "((" * 50 + "1" + "))" * 50 + " = 2",
        "1.2.3 = 4",
    ],
)
def test_what_is_not_plain_arithmetic_is_never_called_false(line: str) -> None:
    found = trace_coherence("", line, None)
    assert (found.equations, found.false_statements) == (None, ())


@settings(deadline=None)
@given(st.integers(-99, 99), st.integers(1, 99), st.integers(-9, 9), st.sampled_from("+-*/"))
def test_a_sum_that_is_worked_out_holds_and_one_that_is_off_by_one_does_not(a: int, b: int, c: int, sign: str) -> None:
    worked_out = {"+": a + b, "-": a - b, "*": a * b, "/": Fraction(a, b)}[sign] * c
    line = f"So ({a} {sign} {b}) × {c} = "
    assert trace_coherence("", line + str(worked_out), None).equations == 1.0
    assert trace_coherence("", line + str(worked_out + 1), None).equations == 0.0


@settings(deadline=None)
@given(st.text("0123456789+-−*/×=<>()^%.,: abx√!\n", max_size=200))
def test_no_text_whatever_makes_coherence_fail(text: str) -> None:
    found = trace_coherence("1 2 3", text, "4")
    assert 0.0 <= found.score <= 1.0


def test_a_long_trace_of_new_numbers_takes_seconds_at_most() -> None:
    text = "\n".join(f"{i} + {i + 7} = {2 * i + 7}" for i in range(1000, 3500))
    started = time.perf_counter()
    assert trace_coherence("p", text, None).equations == 1.0
    assert time.perf_counter() - started < 60  # minutes, if every operand were looked up in every earlier line


def test_blank_reasoning_scores_zero() -> None:
    assert trace_coherence("p", None, "42").score == 0.0
    assert trace_coherence("p", "  \n", "42").score == 0.0


def test_loop_at_the_end_is_seen() -> None:
    assert ends_in_loop("start " + "and then again we add one " * 10)
    assert ends_in_loop("7 " * 30)
    assert not ends_in_loop("one two three four " * 2 + "five six seven eight nine ten")
    assert not ends_in_loop("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27")
    looping = trace_coherence("p", "and then again we add one " * 10, None)
    assert (looping.no_loop, looping.score) == (0.0, 0.0)
