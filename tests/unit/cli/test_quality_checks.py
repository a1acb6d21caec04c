"""`datasets check` and `evalsets check` of files: exit codes, JSON, and what a reader sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tunix_rt.cli.main import app

GOOD = {
    "trace_version": "1.0",
    "prompt": "What is 40 + 2?",
    "final_answer": "42",
    "steps": [{"i": 1, "type": "compute", "content": "40 + 2 = 42"}],
}
LEAK = GOOD | {
    "prompt": "What is 7 plus 8?",
    "final_answer": "15",
    "steps": [GOOD["steps"][0] | {"content": "7 + 8 = 15"}],
}
WRONG = GOOD | {"final_answer": "41"}


@pytest.fixture
def traces(tmp_path: Path) -> Any:
    def write(*rows: object) -> str:
        path = tmp_path / "traces.jsonl"
        path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
        return str(path)

    return write


def run(*arguments: str, exit_code: int) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == exit_code, result.output
    return result.stdout


def test_a_clean_file_exits_0_and_says_so(traces: Any) -> None:
    text = run("datasets", "check", traces(GOOD), "--evalset", "eval_v1", exit_code=0)
    assert "clean: no problem and no warning" in text
    assert "uncategorised" in text


def test_warnings_fail_only_when_asked_to(traces: Any) -> None:
    path = traces(GOOD, WRONG)
    document = json.loads(run("datasets", "check", path, "--json", exit_code=0))
    assert {finding["code"] for finding in document["findings"]} == {
        "conflicting_answers",
        "equal_prompts",
        "other_conclusion",
    }
    assert "differ" in run("datasets", "check", path, "--strict", exit_code=1)


def test_bad_lines_and_leaks_are_problems_with_their_lines(traces: Any) -> None:
    path = traces(GOOD, "oops", LEAK)
    document = json.loads(run("datasets", "check", path, "--evalset", "eval_v1", "--json", exit_code=1))
    assert [(failure["line"], failure["field"]) for failure in document["failures"]] == [(2, "json")]
    (leaks,) = document["contamination"]
    assert leaks["overlaps"] == [
        {"line": 3, "item_id": "v1-001", "kind": "exact", "similarity": 1.0, "same_answer": True}
    ]
    text = run("datasets", "check", path, "--evalset", "eval_v1", exit_code=1)
    assert "v1-001" in text
    assert "is not valid JSON" in text


def test_a_missing_file_or_evalset_is_told_without_asking_a_platform(tmp_path: Path, traces: Any) -> None:
    for arguments in (["no/such.jsonl"], [traces(GOOD), "--evalset", "no/such.jsonl"]):
        result = CliRunner().invoke(app, ["--address", "127.0.0.1:9", "datasets", "check", *arguments])
        assert result.exit_code == 1
        assert "no/such.jsonl" in result.stderr
        assert "reached" not in result.stderr


def test_an_evalset_tells_what_it_can_show() -> None:
    text = run("evalsets", "check", "arith_v1", exit_code=0)
    assert "differences of 0.082 or more" in text
    assert "word_one_step" in text
    document = json.loads(run("evalsets", "check", "arith_v1", "--json", exit_code=0))
    assert document["independent_items"] == document["statistics"]["item_count"] == 100
    assert [each["discordance"] for each in document["detectable"]] == [0.05, 0.1, 0.2, 0.3]


def test_an_evalset_with_a_prompt_twice_fails(tmp_path: Path) -> None:
    path = tmp_path / "twice.jsonl"
    rows = [{"id": name, "prompt": "1 + 1?", "expected_answer": "2"} for name in "ab"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "items have the prompt of an earlier item" in run("evalsets", "check", str(path), exit_code=1)
    path.write_text("{}\n")
    assert json.loads(run("evalsets", "check", str(path), "--json", exit_code=1))["valid"] is False
