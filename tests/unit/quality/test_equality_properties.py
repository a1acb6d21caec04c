"""What may be added without changing a verdict: to the cases of the corpora, and to answers of every type."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.honest_results import parsed

from tunix_rt.quality.items import EvalItem
from tunix_rt.quality.scoring import score_item

HERE = Path(__file__).parent
Change = Callable[[str], str]


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / name).read_text().splitlines()]


def _verdict(case: dict[str, Any], prediction: str) -> float:
    item = {"id": "a", "prompt": "?", "expected_answer": case["expected"], "answer_type": case["answer_type"]}
    return score_item(parsed(item | case.get("item", {})), prediction).metrics["answer_correctness"]


COMPLETIONS = [
    case
    for case in _lines("completion_corpus.jsonl")
    if "finish_reason" not in case
    and case["prediction"].strip()
    and not re.search(r"think|reason|thought|[◁\[<]|channel|analysis", case["prediction"], re.IGNORECASE)
]
AROUND_COMPLETIONS: dict[str, Change] = {
    "a thought": lambda text: f"<think>\nThe answer is 99999, or \\boxed{{Z}}? no.\n</think>\n{text}",
    "a thought that the prompt opened": lambda text: f"Perhaps (J).\n</think>\n\n{text}",
    "a remark": lambda text: f"{text.rstrip()}\n\nI hope this helps!",
    "a special token": lambda text: f"{text}<|im_end|>",
    "white space": lambda text: f"\n\n  {text}  \n\n",
    "tags around a reply": lambda text: f"<response>\n{text}\n</response>",
    "other line ends": lambda text: text.replace("\n", "\r\n"),
    "the name of its role": lambda text: f"Assistant: {text}",
}


@pytest.mark.parametrize("added", AROUND_COMPLETIONS)
def test_completions_of_the_corpus_keep_their_verdict(added: str) -> None:
    change = AROUND_COMPLETIONS[added]
    start = list(AROUND_COMPLETIONS).index(added)
    changed = [
        (case["reason"], change(case["prediction"]))
        for case in COMPLETIONS[start::9]
        if _verdict(case, change(case["prediction"])) != case["want"]
    ]
    assert changed == []


ANSWERS = [
    {"expected": case["expected"], "answer_type": case["answer_type"], "answer": case["answer"], "want": case["match"]}
    | {"item": {name: case[name] for name in ("unit", "abs_tol", "rel_tol", "aliases") if name in case}}
    for name in ("equality_corpus.jsonl", "equality_kinds.jsonl")
    for case in _lines(name)
    if case["answer"].strip()
    and not {"locale", "inequalities"} & case.keys()
    and case["answer"].count("{") == case["answer"].count("}")
    and not re.search(r"answer|respuesta|答|\n|<|boxed|\*", case["answer"], re.IGNORECASE)
]
STATEMENTS: dict[str, Change] = {
    "a box": lambda text: f"\\boxed{{{text}}}",
    "words": lambda text: f"The answer is {text}",
    "words and bold": lambda text: f"**Answer:** **{text.strip()}**",
    "tags": lambda text: f"<answer>{text}</answer>",
    "Spanish": lambda text: f"La respuesta es {text}",
    "Chinese": lambda text: f"答案：{text}",
    "JSON": lambda text: json.dumps({"reasoning": "7", "answer": text}),
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_answers_of_the_corpora_keep_their_verdict_however_they_are_stated(statement: str) -> None:
    change, start = STATEMENTS[statement], list(STATEMENTS).index(statement)
    changed = [
        (case, change(case["answer"]))
        for case in ANSWERS[start::7]
        if _verdict(case, change(case["answer"])) != case["want"]
    ]
    assert changed == []


# Type, fields of the item, a right answer in several writings, and answers that must never become right.
KINDS: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("numeric", {}, ["42", "42.0", "forty-two", "$42$", "84/2", "42 apples"], ["-42", "420", "4.2", "42%", "not 42"]),
    ("numeric", {"unit": "km"}, ["42", "42 km", "42 kilometres"], ["42 m", "42 km/h", "24 km", "-42 km"]),
    ("math", {}, ["42", "\\frac{84}{2}", "6 \\cdot 7", "42.0"], ["-42", "42!", "42\\%", "42x", "4.2", "> 42"]),
    ("set", {}, ["42, 7", "{7, 42}", "7 and 42"], ["42", "42, -7", "42, 7, 1", "7 or 42"]),
    (
        "date",
        {},
        ["1969-07-20", "July 20, 1969", "20 July 1969"],
        ["July 1969", "July 21, 1969", "before July 20, 1969"],
    ),
    ("time", {}, ["17:30", "5:30 p.m.", "half past five p.m."], ["5:30", "17:31", "after 17:30"]),
    ("boolean", {}, ["yes", "true", "Yes, it is", "correct"], ["no", "false", "maybe", "yes or no"]),
    ("text", {}, ["Paris", "paris", "PARIS"], ["Lyon", "Paris or Lyon", "not Paris"]),
    ("choice", {}, ["B", "(B)", "B) Paris", "option B"], ["A", "B or C", "not B", "(D)"]),
    ("choices", {}, ["A, C", "AC", "C and A"], ["A", "A, B, C", "A or C"]),
]
EXPECTED = {"boolean": "yes", "text": "Paris", "choice": "B", "choices": "A, C", "time": "17:30", "date": "1969-07-20"}
LANGUAGES = [
    "The answer is {}",
    "La respuesta es {}",
    "La réponse est {}",
    "Die Antwort ist {}",
    "Ответ: {}",
    "答案：{}",
]
FRAMES = [
    "{}",
    "{}.",
    " {} ",
    "{}\n",
    "**{}**",
    "\n\n{}\n\n",
    "<answer>{}</answer>",
    "<answer> The answer is {} </answer>",
]
BEFORE = ["", "Let me see.\n\n", "We have 3 and 5.\n", "<think>It is 7, or (D)? The answer is no.</think>\n"]
AFTER = ["", "\n\nI hope this helps!", "<|eot_id|>", "\n\nConfidence: 90%"]


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(KINDS), st.sampled_from(["", *LANGUAGES]), st.sampled_from(FRAMES), st.sampled_from(BEFORE),
    st.sampled_from(AFTER), st.data(),
)  # fmt: skip
def test_no_words_around_it_change_the_verdict_of_any_answer_type(
    kind: tuple[str, dict[str, Any], list[str], list[str]],
    language: str,
    frame: str,
    before: str,
    after: str,
    data: st.DataObject,
) -> None:
    answer_type, fields, right, wrong = kind
    answer = data.draw(st.sampled_from([*right, *wrong]))
    stated = frame.format(language.format(answer) if language and "<answer>" not in frame else answer)
    item = EvalItem("q", "?", EXPECTED.get(answer_type, right[0]), answer_type=answer_type, **fields)
    found = score_item(item, before + stated + after)
    assert found.metrics["answer_correctness"] == float(answer in right), (before + stated + after, found)
