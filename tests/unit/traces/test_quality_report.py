"""The quality report of a file: every bad line, repeats with their lines, doubts; the recipes that ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.quality.items import parse_evalset
from tunix_rt.traces.dataset import build_from_recipe
from tunix_rt.traces.quality_report import QualityReport, quality_report
from tunix_rt.traces.repeats import distinct_answers
from tunix_rt.traces.schema import Step, Trace, canonical_line
from tunix_rt.traces.soundness import doubts

NINE = "one two three four five six seven eight nine"
EVALSETS = Path(__file__).parents[3] / "evalsets"


def _line(prompt: str, answer: str = "4", *steps: str) -> str:
    return canonical_line(Trace(prompt, answer, tuple(Step(i, "t", s) for i, s in enumerate(steps or ("so",)))))


def _report(*lines: str | bytes, **options: Any) -> QualityReport:
    return quality_report(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines), **options)


def _codes(report: QualityReport) -> dict[str, int]:
    return {finding.code: finding.count for finding in report.findings()}


def test_every_bad_line_is_named_and_counted_by_kind() -> None:
    report = _report("{", _line("a?"), b"\xff\xfe", "", '{"prompt": "x", "steps": []}', "[]", '{"colour": 1}')
    named = {(failure.line, failure.field) for failure in report.failures}
    assert {(1, "json"), (3, "bytes"), (5, "steps"), (6, "trace"), (7, "colour"), (7, "prompt")} <= named
    assert {line for line, _ in named} == {1, 3, 5, 6, 7}
    kinds = report.failures_by_kind
    assert kinds["final_answer is required"] == kinds["trace_version is required"] == 2
    assert kinds["json is not valid JSON"] == kinds["bytes are not UTF-8"] == 1
    assert next(iter(kinds.values())) == 2
    assert report.lines == (2,)
    assert _codes(report) == {"bad_lines": 5}


def test_failures_that_differ_in_numbers_alone_are_of_one_kind() -> None:
    document = json.loads(_line("a?", "4", "x", "y"))
    for step, size in zip(document["steps"], (20_001, 30_000), strict=True):
        step["content"] = "x" * size
    report = _report(json.dumps(document))
    assert report.failures_by_kind == {"steps[].content has N characters": 2}


def test_an_empty_file_is_a_problem_of_no_line() -> None:
    report = _report("")
    assert [(failure.line, failure.kind) for failure in report.failures] == [(0, "has no traces")]
    assert report.token_lengths is None
    assert json.loads(json.dumps(report.to_dict()))["token_lengths"] is None


def test_repeats_are_grouped_with_their_lines_and_conflicting_answers_called_out() -> None:
    report = _report(
        _line("Sum of 2 and 2?", "4"),
        "oops",
        _line("sum of 2 and 2", "4.0", "another way"),
        _line("Half of ten?", "5"),
        _line("Sum of 2 and 2?", "4"),
        _line("HALF OF TEN", "6"),
        _line(NINE),
        _line(NINE + " ten"),
        _line(NINE + " ten eleven"),
    )
    document = report.to_dict()
    assert document["identical_lines"] == [5]
    assert [(group["lines"], group["answers"]) for group in document["equal_prompts"]] == [
        ([1, 3, 5], ["4"]),
        ([4, 6], ["5", "6"]),
    ]
    # Runs of five: 5, 6 and 7 of them; the last resembles the second (6/7) and not the first (5/7).
    (near,) = document["near_duplicate_groups"]
    assert (near["lines"], near["similarity"]) == ([7, 8, 9], 5 / 6)
    assert document["near_duplicates"] == 2 + 1 + 2
    assert _codes(report) == {
        "bad_lines": 1,
        "identical": 1,
        "conflicting_answers": 1,
        "equal_prompts": 2,
        "near_duplicates": 3,
    }


def test_answers_differ_by_number_or_by_normalised_text() -> None:
    assert distinct_answers(["4", "4.0", "1,000", "1000", "Paris", "paris.", "Lyon"]) == ("4", "1,000", "Paris", "Lyon")


def test_the_budget_counts_what_exceeds_it() -> None:
    # 16 tokens and the prompt's: 18 for "a?", 20 for "a b c?".
    lines = [_line("a?"), _line("a b c?"), _line("b?")]
    over = _report(*lines, max_trace_tokens=18)
    assert over.budget is not None
    assert (over.budget.exceeding, over.budget.lines) == (1, (2,))
    assert _codes(over) == {"over_budget": 1}
    assert _codes(_report(*lines, max_trace_tokens=20)) == {}
    assert [(each.low, each.count) for each in over.histogram] == [(18, 2), (19, 0), (20, 1)]


@pytest.mark.parametrize(
    ("answer", "steps", "kinds"),
    [
        ("12", ("7 + 5 = 12", "It is 12."), []),
        ("12", ("7 + 5 = 13", "It is 12."), ["false_equation"]),
        ("12", ("7 + 5 = 12", "So it is 13."), ["other_conclusion"]),
        ("12", ("...", "7 + 5 = 12"), ["empty_step"]),
        ("12", ("7 + 5 = 12",) * 5, ["loop"]),
        ("12", ("7 + 5 = 12<|im_end|>", "It is 12."), ["control_tokens"]),
        ("12", ("7 + 5 = 12 <end_of_turn></s>[INST]", "It is 12."), ["control_tokens"]),
        ("12", ("7 + 5 = 12</reasoning><answer>9</answer>", "It is 12."), ["stray_tags"]),
        ("12", ("7 < 12 | 5 > 1, <b>so</b>", "It is 12."), []),
    ],
)
def test_doubts_about_the_texts(answer: str, steps: tuple[str, ...], kinds: list[str]) -> None:
    trace = Trace("What is 7 + 5?", answer, tuple(Step(i, "t", step) for i, step in enumerate(steps)))
    assert [doubt.kind for doubt in doubts(0, trace)] == kinds


def test_control_tokens_are_found_in_every_text_and_counted_by_trace() -> None:
    report = _report(_line("What does <|im_start|> mean?"), _line("And <｜User｜>?", "<|eot_id|>"), _line("a b"))
    assert _codes(report)["control_tokens"] == 2
    details = [doubt["detail"] for doubt in report.to_dict()["doubts"] if doubt["kind"] == "control_tokens"]
    assert details == ["<|im_start|>", "<｜User｜> <|eot_id|>"]


def test_recipes_are_sound_and_meet_their_evalset_only_in_a_name() -> None:
    evalsets = {
        name: parse_evalset((EVALSETS / f"{name}.jsonl").read_bytes()).items
        for name in ("eval_v1", "eval_v2", "arith_v1")
    }
    golden = quality_report(build_from_recipe("golden-v2").jsonl, evalsets=evalsets)
    assert golden.findings() == []
    arith = quality_report(build_from_recipe("arith-v1").jsonl, evalsets=evalsets)
    assert {finding.code for finding in arith.findings()} == {"near_duplicates", "nearly_contaminated"}
    leaks = {each.evalset: each for each in arith.leaks}
    assert [leaks[name].near_items for name in ("eval_v1", "eval_v2")] == [0, 0]
    # Word problems of the held-out side, of which the training side has the same about somebody else.
    assert (leaks["arith_v1"].exact_items, leaks["arith_v1"].near_items) == (0, 4)
    assert {overlap.kind for overlap in leaks["arith_v1"].overlaps} == {"near"}
