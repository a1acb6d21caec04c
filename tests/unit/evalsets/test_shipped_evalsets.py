"""The evalsets that ship: valid, as their manifests say, right, and apart from every training recipe."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.quality.items import EvalItem, EvalSet, canonical_jsonl, parse_evalset
from tunix_rt.quality.scoring import score_item
from tunix_rt.traces.normalise import normalise_prompt
from tunix_rt.traces.recipes import build, held_out_problems

FOLDER = Path(__file__).parents[3] / "evalsets"
NAMES = ("arith_v1", "eval_v1", "eval_v2")


def _load(name: str) -> EvalSet:
    return parse_evalset((FOLDER / f"{name}.jsonl").read_bytes())


def _manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.manifest.json").read_text())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_manifest_says_what_the_file_holds(name: str) -> None:
    evalset, manifest = _load(name), _manifest(name)
    statistics = evalset.statistics
    assert manifest["key"] == name
    assert manifest["digest"] == evalset.digest
    assert manifest["counts"] == {
        "items": statistics.item_count,
        "sections": statistics.sections,
        "categories": statistics.categories,
        "difficulties": statistics.difficulties,
        "answer_types": statistics.answer_types,
    }
    assert manifest["license"] == "Apache-2.0"
    assert manifest["provenance"]["method"]
    assert canonical_jsonl(evalset.items) == (FOLDER / f"{name}.jsonl").read_bytes()


def test_sizes_and_sections_are_as_promised() -> None:
    assert _load("eval_v1").statistics.item_count == 25
    assert _load("eval_v2").statistics.sections == {"core": 60, "trace_sensitive": 25, "edge_case": 15}
    assert set(_load("eval_v2").statistics.answer_types) == {"text", "numeric", "choice", "set", "regex", "math"}
    assert _load("arith_v1").statistics.item_count == 100


def _evaluate(expression: str) -> Fraction:
    """Left to right with products first, exactly; numbers and + - * / and brackets only."""
    assert re.fullmatch(r"[\d.+\-*/()\s]+", expression)
    exact = re.sub(r"\d+(?:\.\d+)?", lambda m: f"Fraction('{m[0]}')", expression)
    return Fraction(eval(exact, {"Fraction": Fraction}))


@pytest.mark.parametrize("name", ["eval_v1", "eval_v2"])
def test_answers_equal_their_check_expressions(name: str) -> None:
    checked = [item for item in _load(name).items if "check" in item.meta]
    assert len(checked) >= 14
    for item in checked:
        assert _evaluate(item.meta["check"]) == Fraction(item.expected_answer), item.id


@pytest.mark.parametrize("name", NAMES)
def test_every_reference_is_right_by_its_own_rule_and_a_wrong_answer_is_not(name: str) -> None:
    for item in _load(name).items:
        answer = "9:25" if item.expected_answer.startswith("0?9:25") else item.expected_answer
        assert _correct(item, answer) == 1.0, item.id
        assert _correct(item, "12345") == 0.0, item.id


def _correct(item: EvalItem, answer: str) -> float:
    return score_item(item, f"<answer>{answer}</answer>").metrics["answer_correctness"]


def test_arith_evalset_is_the_held_out_side_of_its_recipe() -> None:
    items = _load("arith_v1").items
    problems = held_out_problems(_manifest("arith_v1")["provenance"]["seed"], 100)
    assert [(i.prompt, i.expected_answer, i.category) for i in items] == [
        (p.prompt, p.answer, p.category) for p in problems
    ]


def test_no_training_recipe_holds_an_evaluation_prompt() -> None:
    trained = {normalise_prompt(t.prompt) for t in [*build("golden-v2"), *build("arith-v1", 9000)]}
    asked = {normalise_prompt(item.prompt) for name in NAMES for item in _load(name).items}
    assert len(asked) == 225
    assert trained.isdisjoint(asked)
