"""Every line of equality_corpus.jsonl: what must match and what must not, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.quality.equality import Rule, answers_equal, reference_problem
from tunix_rt.quality.math_equality import MathVerifier

CASES = [json.loads(line) for line in (Path(__file__).parent / "equality_corpus.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    found = MathVerifier(timeout_seconds=60)
    yield found
    found.close()


def _rule(case: dict[str, Any]) -> Rule:
    return Rule(
        answer_type=case["answer_type"],
        abs_tol=Fraction(case.get("abs_tol", "0")),
        rel_tol=Fraction(case.get("rel_tol", "0")),
        unit=case.get("unit", ""),
        locale=case.get("locale", ""),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['answer_type']}:{c['expected']}<>{c['answer'][:20]!r}")
def test_corpus_case_holds(case: dict[str, Any], verifier: MathVerifier) -> None:
    references = [case["expected"], *case.get("aliases", [])]
    assert all(reference_problem(_rule(case), reference) is None for reference in references)
    assert answers_equal(_rule(case), references, case["answer"], verifier) is case["match"], case["reason"]


def test_corpus_has_hundreds_of_distinct_cases_of_both_kinds() -> None:
    distinct = {json.dumps(case, sort_keys=True) for case in CASES}
    assert len(distinct) == len(CASES) >= 200
    assert min(sum(c["match"] for c in CASES), sum(not c["match"] for c in CASES)) >= 80
    assert all(case["reason"] for case in CASES)
