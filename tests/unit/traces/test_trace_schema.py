"""Reading and rendering traces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.traces.export import export_lines
from tunix_rt.traces.extract import extract
from tunix_rt.traces.render import render_completion
from tunix_rt.traces.schema import Step, Trace, canonical_line, parse_traces

GOOD: dict[str, Any] = {
    "trace_version": "1.0",
    "prompt": "What is 2 + 2?",
    "final_answer": "4",
    "steps": [{"i": 1, "type": "compute", "content": "2 + 2 = 4"}, {"i": 2, "type": "conclude", "content": "It is 4."}],
}


def _fields(*lines: Any) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        parse_traces([line if isinstance(line, str) else json.dumps(line) for line in lines])
    return [v.field for v in caught.value.violations]


STEP = {"i": 1, "type": "t", "content": "c"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"trace_version": None}, "trace_version"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 50_001}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"final_answer": " "}, "final_answer"),
        ({"final_answer": "x" * 50_001}, "final_answer"),
        ({"steps": []}, "steps"),
        ({"steps": None}, "steps"),
        ({"steps": {}}, "steps"),
        ({"steps": [{"i": k, "type": "t", "content": "c"} for k in range(1001)]}, "steps"),
        ({"steps": [STEP, STEP]}, "steps[1].i"),
        ({"steps": [STEP | {"i": -1}]}, "steps[0].i"),
        ({"steps": [STEP | {"i": True}]}, "steps[0].i"),
        ({"steps": [STEP | {"type": ""}]}, "steps[0].type"),
        ({"steps": [STEP | {"content": "x" * 20_001}]}, "steps[0].content"),
        ({"steps": [STEP | {"extra": 1}]}, "steps[0].extra"),
        ({"steps": ["c"]}, "steps[0]"),
        ({"meta": []}, "meta"),
        ({"answer": "4"}, "answer"),
    ],
)
def test_broken_trace_is_refused_and_its_field_named(change: dict[str, Any], field: str) -> None:
    assert _fields(GOOD, GOOD | change) == [f"line 2.{field}"]


TALK: dict[str, Any] = {
    "trace_version": "1.1",
    "system": "Be brief.",
    "history": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}],
    "prompt": "What is 2 + 2?",
    "final_answer": "4",
}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"trace_version": "1.0"}, ["system", "history", "steps"]),
        ({"system": " "}, ["system"]),
        ({"system": 5}, ["system"]),
        ({"system": "x" * 50_001}, ["system"]),
        ({"history": "Hello?"}, ["history"]),
        ({"history": TALK["history"][:1]}, ["history"]),
        ({"history": TALK["history"] * 101}, ["history"]),
        ({"history": TALK["history"][::-1]}, ["history[0].role", "history[1].role"]),
        ({"history": [{"role": "user"}, {"role": "assistant", "content": "a", "name": "b"}]},
         ["history[0].content", "history[1].name"]),
        ({"history": ["Hello?", "Hello."]}, ["history[0]", "history[1]"]),
        ({"steps": 5}, ["steps"]),
    ],
)  # fmt: skip
def test_broken_conversation_is_refused_and_every_field_named(change: dict[str, Any], fields: list[str]) -> None:
    assert _fields(TALK, TALK | change) == [f"line 2.{field}" for field in fields]


def test_conversation_is_rendered_turn_by_turn_and_its_answer_alone_without_steps() -> None:
    (trace,) = parse_traces([json.dumps(TALK)])
    assert parse_traces([canonical_line(trace)]) == [trace]
    assert trace.questions == ("Hello?", "What is 2 + 2?")
    (chat,) = export_lines([trace], "chat")
    expected = [("system", "Be brief."), ("user", "Hello?"), ("assistant", "Hello."), ("user", "What is 2 + 2?")]
    said = [(turn["role"], turn["content"]) for turn in json.loads(chat)["messages"]]
    assert said == [*expected, ("assistant", "4")]
    (gemma,) = export_lines([trace], "tunix_sft")
    assert json.loads(gemma)["prompt"] == (
        "<start_of_turn>user\nBe brief.\n\nHello?<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\nWhat is 2 + 2?<end_of_turn>\n<start_of_turn>model\n"
    )
    with_steps = parse_traces([json.dumps(TALK | {"steps": [STEP]})])[0]
    assert render_completion(with_steps) == "<reasoning>\nc\n</reasoning>\n<answer>4</answer>"


def test_every_bad_line_is_named_at_once() -> None:
    assert _fields("{", GOOD, "[]", GOOD | {"prompt": ""}, '{"prompt": NaN}', '{"prompt": "\\ud800"}') == [
        "line 1.json",
        "line 3.trace",
        "line 4.prompt",
        "line 5.json",
        "line 6.json",
    ]
    assert _fields("", " ") == ["jsonl"]


def test_a_number_that_json_cannot_spell_is_refused() -> None:
    assert _fields(json.dumps(GOOD | {"meta": {"seconds": 1}}).replace("1}", "1e999}")) == ["line 1.json"]


def test_canonical_line_is_a_fixed_point() -> None:
    (trace,) = parse_traces([json.dumps(GOOD | {"meta": {"category": "é"}}, indent=None)])
    assert parse_traces([canonical_line(trace)]) == [trace]
    assert canonical_line(trace).startswith('{"final_answer":"4","meta":{"category":"é"},"prompt"')


def test_rendering_is_reasoning_then_answer() -> None:
    (trace,) = parse_traces([json.dumps(GOOD)])
    expected = "<reasoning>\n2 + 2 = 4\nIt is 4.\n</reasoning>\n<answer>4</answer>"
    assert render_completion(trace) == expected
    assert extract(expected).answer == "4"


def test_exports_carry_the_same_trace_in_three_layouts() -> None:
    trace = Trace("Q?", "A", (Step(1, "t", "so"),), meta={"category": "x"})
    completion = "<reasoning>\nso\n</reasoning>\n<answer>A</answer>"
    (as_trace,), (as_chat,), (as_sft,) = (
        [json.loads(line) for line in export_lines([trace], name)] for name in ("trace", "chat", "tunix_sft")
    )
    assert as_trace["steps"] == [{"i": 1, "type": "t", "content": "so"}]
    assert as_chat == {"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": completion}]}
    assert as_sft["prompt"] == "<start_of_turn>user\nQ?<end_of_turn>\n<start_of_turn>model\n"
    assert as_sft["completion"] == completion + "<end_of_turn>"
    assert as_sft["text"] == as_sft["prompt"] + as_sft["completion"]
    with pytest.raises(InvalidInput, match="parquet"):
        export_lines([trace], "parquet")
