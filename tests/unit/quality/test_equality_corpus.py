"""Every line of equality_corpus.jsonl and equality_kinds.jsonl: what must match and what must not, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.quality.equality import ANSWER_TYPES, Rule, answers_equal, reference_problem
from tunix_rt.quality.math_equality import MathVerifier

CASES = [
    json.loads(line)
    for name in ("equality_corpus.jsonl", "equality_kinds.jsonl")
    for line in (Path(__file__).parent / name).read_text().splitlines()
]


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    found = MathVerifier()
    yield found
    found.close()


def _rule(case: dict[str, Any]) -> Rule:
    return Rule(
        answer_type=case["answer_type"],
        abs_tol=Fraction(case.get("abs_tol", "0")),
        rel_tol=Fraction(case.get("rel_tol", "0")),
        unit=case.get("unit", ""),
        locale=case.get("locale", ""),
        inequalities=case.get("inequalities", True),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['answer_type']}:{c['expected']}<>{c['answer'][:20]!r}")
def test_corpus_case_holds(case: dict[str, Any], verifier: MathVerifier) -> None:
    references = [case["expected"], *case.get("aliases", [])]
    assert all(reference_problem(_rule(case), reference) is None for reference in references)
    assert answers_equal(_rule(case), references, case["answer"], verifier) is case["match"], case["reason"]


def test_corpus_has_hundreds_of_distinct_cases_of_both_kinds() -> None:
    distinct = {json.dumps(case, sort_keys=True) for case in CASES}
    assert len(distinct) == len(CASES) >= 1_800
    assert min(sum(c["match"] for c in CASES), sum(not c["match"] for c in CASES)) >= 850
    assert all(case["reason"] for case in CASES)


@pytest.mark.parametrize("answer_type", ANSWER_TYPES)
def test_every_answer_type_has_cases_of_both_kinds(answer_type: str) -> None:
    kinds = [case["match"] for case in CASES if case["answer_type"] == answer_type]
    assert min(kinds.count(True), kinds.count(False)) >= 7


@settings(deadline=None)
@given(st.sampled_from(CASES), st.sampled_from(["**", "`", '"', " ", "\n", "\u200b"]))
def test_markup_around_a_whole_answer_never_turns_a_wrong_answer_right(case: dict[str, Any], mark: str) -> None:
    answer = f"{mark}{case['answer']}{mark}"
    if case["answer_type"] not in ("math", "regex") and not case["match"] and case["answer"].strip():
        assert not answers_equal(_rule(case), [case["expected"], *case.get("aliases", [])], answer)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ANSWER_TYPES), st.text(max_size=60), st.text("0123456789.,+-−/%^()[]{}$\\ eox½", max_size=30))
def test_no_text_whatever_makes_equality_fail(answer_type: str, text: str, numeral: str) -> None:
    expected = {"numeric": "42", "choice": "D", "date": "1929-02-11", "time": "17:30", "boolean": "yes"}.get(
        answer_type, "x"
    )
    for answer in (text, numeral, text + numeral):
        assert answers_equal(Rule(answer_type), [expected], answer) in (True, False)
