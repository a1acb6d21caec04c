"""Sub-scores of a trace, computed by hand."""

from __future__ import annotations

import pytest

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
    ],
)
def test_statement_is_evaluated_exactly(line: str, holds: float) -> None:
    assert trace_coherence("", line, None).equations == holds


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
