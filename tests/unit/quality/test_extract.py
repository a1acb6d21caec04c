"""What is taken for the reasoning and the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.quality.extract import AnswerSource, extract, last_boxed
from tunix_rt.traces.recipes import build
from tunix_rt.traces.render import render_completion

CASES = [json.loads(line) for line in (Path(__file__).parent / "extract_corpus.jsonl").read_text().splitlines()]
_PIECES = [
    "<reasoning>",
    "</reasoning>",
    "<answer>",
    "</answer>",
    "<ANSWER x='1'>",
    "a",
    " ",
    "\n",
    "```",
    "\\boxed{",
    "}",
    "answer: ",
]
GOOD = "<reasoning>\n40 + 2 = 42\n</reasoning>\n<answer>42</answer>"


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["reason"])
def test_corpus_case_is_taken_apart_as_the_rules_say(case: dict[str, Any]) -> None:
    found = extract(case["text"])
    assert (found.reasoning, found.answer) == (case["reasoning"], case["answer"]), case["reason"]
    assert (found.source, found.well_formed) == (AnswerSource(case["source"]), case["well_formed"])
    assert found.well_formed is not bool(found.problems)


def test_corpus_has_distinct_cases_with_reasons() -> None:
    assert len({case["text"] for case in CASES}) == len(CASES) >= 60
    assert len({case["reason"] for case in CASES}) == len(CASES)
    assert {case["source"] for case in CASES} == {source.value for source in AnswerSource}


@settings(deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_any_mixture_of_tags_is_taken_apart(text: str) -> None:
    found = extract(text)
    for part in (found.reasoning, found.answer):
        assert part is None or part.strip() == part != ""
    if found.well_formed:
        assert text.split("<answer>")[1].split("</answer>")[0].strip() == found.answer


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<answer>42</answer>", "0 <reasoning> tags, not 1"),
        (GOOD + "<answer>42</answer>", "2 <answer> tags, not 1"),
        ("<reasoning>r<answer>42</answer></reasoning>", "tags are not in order"),
        ("<answer>42</answer><reasoning>r</reasoning>", "tags are not in order"),
        (GOOD.upper(), "tags are not written"),
        (GOOD + " bye", "text after"),
        ("Well: " + GOOD, "text before"),
        (GOOD.replace("\n<answer>", " so <answer>"), "text between"),
        ("```\n" + GOOD + "\n```", "text before"),
        ("<reasoning> </reasoning><answer>42</answer>", "the reasoning is empty"),
        ("<reasoning>r</reasoning><answer> </answer>", "the answer is empty"),
        ("<reasoning>r</reasoning><answer>42", "0 </answer> tags, not 1"),
    ],
)
def test_malformed_completion_is_named(text: str, problem: str) -> None:
    found = extract(text)
    assert not found.well_formed
    assert any(problem in named for named in found.problems)


def test_every_rendered_trace_is_well_formed_and_comes_back() -> None:
    for trace in build("golden-v2"):
        found = extract(render_completion(trace))
        assert found.well_formed and found.problems == ()
        assert found.answer == trace.final_answer
        assert found.reasoning == "\n".join(step.content for step in trace.steps)


def test_boxed_braces_are_balanced() -> None:
    assert last_boxed("\\boxed{1} then \\boxed{\\frac{a}{b}}") == "\\frac{a}{b}"
    assert last_boxed("\\boxed{never closed") is None
    assert last_boxed("\\boxed{1} and \\boxed{never closed") == "1"


def test_thousands_of_boxes_that_never_close_are_given_up_quickly() -> None:
    assert last_boxed("\\boxed{" * 100_000) is None
