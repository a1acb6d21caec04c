"""Every line of completion_corpus.jsonl: a completion as models write them, whether it is right, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.honest_results import parsed
from typer.testing import CliRunner

from tunix_rt.cli.main import app
from tunix_rt.quality.scoring import score_item

CASES = [json.loads(line) for line in (Path(__file__).parent / "completion_corpus.jsonl").read_text().splitlines()]


def document(case: dict[str, Any], item_id: str = "a") -> dict[str, Any]:
    item = {"id": item_id, "prompt": "?", "expected_answer": case["expected"], "answer_type": case["answer_type"]}
    return item | case.get("item", {})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["reason"])
def test_completion_is_judged_as_its_reason_says(case: dict[str, Any]) -> None:
    score = score_item(parsed(document(case)), case["prediction"], finish_reason=case.get("finish_reason", ""))
    found = f"{case['reason']}: {score.extracted_answer!r} by {score.details['answer_source']}"
    assert score.metrics["answer_correctness"] == case["want"], found


def test_corpus_has_more_than_a_thousand_cases_and_a_third_must_not_match() -> None:
    keys = {json.dumps([document(case), case["prediction"], case.get("finish_reason")]) for case in CASES}
    assert len(keys) == len(CASES) >= 1_000
    assert sum(case["want"] == 0 for case in CASES) >= len(CASES) / 3
    assert all(case["reason"] for case in CASES)


def test_score_command_gives_the_same_verdicts(tmp_path: Path) -> None:
    cases = {f"case-{n}": case for n, case in enumerate(CASES) if "finish_reason" not in case and n % 5 == 0}
    evalset, predictions = tmp_path / "evalset.jsonl", tmp_path / "predictions.jsonl"
    evalset.write_text("".join(json.dumps(document(case, name)) + "\n" for name, case in cases.items()))
    lines = [{"id": name, "prediction": case["prediction"]} for name, case in cases.items()]
    predictions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = ["score", "--evalset", str(evalset), "--predictions", str(predictions), "--json"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    found = {row["item_id"]: row["metrics"]["answer_correctness"] for row in json.loads(result.stdout)["results"]}
    assert found == {name: case["want"] for name, case in cases.items()}
