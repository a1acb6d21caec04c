"""What is taken for the reasoning and the answer."""

from __future__ import annotations

import pytest

from tunix_rt.quality.extract import AnswerSource, extract, last_boxed
from tunix_rt.traces.recipes import build
from tunix_rt.traces.render import render_completion

GOOD = "<reasoning>\n40 + 2 = 42\n</reasoning>\n<answer>42</answer>"


@pytest.mark.parametrize(
    ("text", "answer", "source"),
    [
        (GOOD, "42", AnswerSource.TAG),
        ("<ANSWER>42</ANSWER>", "42", AnswerSource.TAG),
        ("< answer > 42 </ answer >", "42", AnswerSource.TAG),
        ("```xml\n<reasoning>r</reasoning>\n<answer>42</answer>\n```", "42", AnswerSource.TAG),
        ("<answer>41</answer> no, <answer>42</answer>", "42", AnswerSource.TAG),
        ("<answer>so <answer>42</answer></answer>", "42", AnswerSource.TAG),
        ("<reasoning>is it <answer>41</answer>?</reasoning><answer>42</answer>", "42", AnswerSource.TAG),
        ("<reasoning>I close with <answer> tags</reasoning><answer>42</answer>", "42", AnswerSource.TAG),
        ("<answer>42</answer><answer>", "42", AnswerSource.TAG),
        ("<reasoning>r</reasoning><answer>42", "42", AnswerSource.UNCLOSED_TAG),
        ("<answer>  </answer>", None, AnswerSource.TAG),
        ("So it is.\nAnswer: 42\nBye", "42", AnswerSource.MARKER),
        ("The answer is 41. Wait, the answer is 42", "42", AnswerSource.MARKER),
        ("Then \\boxed{\\frac{1}{2}} follows.\nDone.", "\\frac{1}{2}", AnswerSource.BOXED),
        ("First 40.\nThen 42\n\n", "Then 42", AnswerSource.LAST_LINE),
        ("```\n42\n```", "42", AnswerSource.LAST_LINE),
        ("<reasoning>r</reasoning>\n42", "42", AnswerSource.LAST_LINE),
        ("<reasoning>lost in thought, answer: 42", None, AnswerSource.NONE),
        ("<reasoning>r</reasoning>", None, AnswerSource.NONE),
        ("", None, AnswerSource.NONE),
    ],
)
def test_answer_is_found_where_the_rules_say(text: str, answer: str | None, source: AnswerSource) -> None:
    found = extract(text)
    assert (found.answer, found.source) == (answer, source)


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
