"""Reading evalsets: every rule by a line that breaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.quality.items import canonical_jsonl, parse_evalset

GOOD: dict[str, Any] = {"id": "q1", "prompt": "1+1?", "expected_answer": "2"}


def _violations(*documents: Any) -> list[tuple[str, str]]:
    text = "\n".join(d if isinstance(d, str) else json.dumps(d) for d in documents)
    with pytest.raises(InvalidInput) as caught:
        parse_evalset(text)
    return [(v.field, v.description) for v in caught.value.violations]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": None}, "id"),
        ({"id": True}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": "x" * 50_001}, "prompt"),
        ({"expected_answer": ""}, "expected_answer"),
        ({"expected_answer": 2.5}, "expected_answer"),
        ({"section": "main"}, "section"),
        ({"difficulty": "trivial"}, "difficulty"),
        ({"answer_type": "number"}, "answer_type"),
        ({"category": ""}, "category"),
        ({"abs_tol": "-1", "answer_type": "numeric"}, "abs_tol"),
        ({"abs_tol": "a bit", "answer_type": "numeric"}, "abs_tol"),
        ({"rel_tol": True, "answer_type": "numeric"}, "rel_tol"),
        ({"rel_tol": "inf", "answer_type": "numeric"}, "rel_tol"),
        ({"abs_tol": "0.1"}, "abs_tol"),
        ({"unit": "km"}, "unit"),
        ({"aliases": "two"}, "aliases"),
        ({"aliases": [""]}, "aliases[0]"),
        ({"aliases": [2.5]}, "aliases"),
        ({"meta": []}, "meta"),
        ({"meta": {"trace_budget": 0}}, "meta.trace_budget"),
        ({"meta": {"trace_budget": -5}}, "meta.trace_budget"),
        ({"meta": {"trace_budget": 2.5}}, "meta.trace_budget"),
        ({"meta": {"trace_budget": "30"}}, "meta.trace_budget"),
        ({"meta": {"trace_budget": True}}, "meta.trace_budget"),
        ({"meta": {"trace_budget": None}}, "meta.trace_budget"),
        ({"meta": {"trace_budget": 10**400}}, "meta.trace_budget"),
        ({"meta": {"locale": "german!"}}, "meta.locale"),
        ({"meta": {"locale": 49}}, "meta.locale"),
        ({"colour": "red"}, "colour"),
        ({"answer_type": "numeric", "expected_answer": "two or three"}, "expected_answer"),
        ({"answer_type": "numeric", "aliases": ["many"]}, "aliases[0]"),
        ({"answer_type": "choice", "expected_answer": "?"}, "expected_answer"),
        ({"answer_type": "regex", "expected_answer": "(a"}, "expected_answer"),
    ],
)
def test_broken_line_is_refused_and_its_field_named(change: dict[str, Any], field: str) -> None:
    assert [name for name, _ in _violations(GOOD | change)] == [f"line 1.{field}"]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "3",
        '{"id":"a","id":"b","prompt":"p","expected_answer":"x"}',
        '{"meta":{"x":NaN}}',
        '{"id":"\\ud800"}',
    ],
)
def test_line_that_is_no_object_is_refused(line: str) -> None:
    assert _violations(line)[0][0] in ("line 1.json", "line 1.item")


def test_every_violation_of_every_line_is_named_at_once() -> None:
    found = [name for name, _ in _violations(GOOD, "", GOOD, {"id": "q2", "section": "x"}, "nonsense")]
    assert found == ["line 3.id", "line 4.prompt", "line 4.expected_answer", "line 4.section", "line 5.json"]


def test_empty_text_is_refused() -> None:
    assert _violations("\n\n")[0][0] == "jsonl"


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(InvalidInput, match="UTF-8"):
        parse_evalset(b"\xff\xfe")


def test_digest_is_of_content_and_not_of_spelling() -> None:
    plain = parse_evalset(json.dumps(GOOD | {"answer_type": "numeric", "abs_tol": 0.10}))
    spaced = parse_evalset(
        '\n { "answer_type":"numeric", "section":"core","abs_tol":"0.1",'
        '  "expected_answer":"2","prompt":"1+1?","id":"q1"}\r\n'
    )
    assert plain.digest == spaced.digest
    assert parse_evalset(canonical_jsonl(plain.items)).digest == plain.digest
    assert parse_evalset(json.dumps(GOOD)).digest != plain.digest
    assert plain.items[0].rule.abs_tol * 10 == 1


def test_statistics_count_every_label() -> None:
    lines = [
        GOOD,
        GOOD | {"id": "q2", "section": "edge_case", "category": "zero", "difficulty": "hard", "answer_type": "set"},
    ]
    found = parse_evalset("\n".join(map(json.dumps, lines))).statistics
    assert found.item_count == 2
    assert found.sections == {"core": 1, "edge_case": 1}
    assert found.categories == {"general": 1, "zero": 1}
    assert found.difficulties == {"hard": 1, "medium": 1}
    assert found.answer_types == {"set": 1, "text": 1}


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"answer_type": "math", "expected_answer": "\\frac{"}, "expected_answer", "brackets are not balanced"),
        ({"answer_type": "math", "expected_answer": "see the proof above"}, "expected_answer", "answer_type text"),
        ({"answer_type": "date", "expected_answer": "03/04/2020"}, "expected_answer", "is not one date"),
        ({"answer_type": "date", "expected_answer": "30 February 2020"}, "expected_answer", "is not one date"),
        ({"answer_type": "time", "expected_answer": "5"}, "expected_answer", "is not a time of day"),
        ({"answer_type": "boolean", "expected_answer": "maybe"}, "expected_answer", "neither yes"),
        (
            {"answer_type": "numeric", "expected_answer": "5 km", "unit": "m"},
            "expected_answer",
            "another unit than 'm'",
        ),
        ({"expected_answer": "yes", "aliases": ["no"]}, "aliases[0]", "the opposite"),
        ({"answer_type": "choice", "expected_answer": "B", "aliases": ["C"]}, "aliases[0]", "another option"),
        ({"answer_type": "numeric", "expected_answer": "5", "rel_tol": "50"}, "rel_tol", "at most 1"),
        ({"meta": {"locale": "zz"}}, "meta.locale", "known language"),
        ({"meta": {"locale": "de-QQ"}}, "meta.locale", "known language"),
        ({"meta": {"inequalities": "no"}}, "meta.inequalities", "true or false"),
    ],
)
def test_gold_that_its_own_type_cannot_use_is_refused(change: dict[str, Any], field: str, words: str) -> None:
    document = {"id": "q", "prompt": "p", "expected_answer": "x"} | change
    ((found, description),) = _violations(document)
    assert found == f"line 1.{field}"
    assert words in description


@pytest.mark.parametrize(
    "change",
    [
        {"answer_type": "math", "expected_answer": "\\text{Evelyn}"},
        {"answer_type": "math", "expected_answer": "\\int_0^1 x dx"},
        {"answer_type": "date", "expected_answer": "03/04/2020", "meta": {"locale": "de"}},
        {"answer_type": "numeric", "expected_answer": "5", "rel_tol": "1"},
        {"expected_answer": "no", "aliases": ["nope"], "meta": {"locale": "es-MX"}},
        {"answer_type": "choice", "expected_answer": "B", "aliases": ["Paris"]},
    ],
)
def test_gold_that_its_type_can_use_is_taken(change: dict[str, Any]) -> None:
    evalset = parse_evalset(json.dumps({"id": "q", "prompt": "p", "expected_answer": "x"} | change))
    assert evalset.statistics.item_count == 1
