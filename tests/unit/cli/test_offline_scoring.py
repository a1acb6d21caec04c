"""`score` and `evalsets validate`: without a platform, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tunix_rt.cli.main import app

ITEMS = [
    {"id": "a", "prompt": "1+1?", "expected_answer": "2", "answer_type": "numeric", "section": "core"},
    {"id": "b", "prompt": "2+2?", "expected_answer": "4", "answer_type": "numeric", "section": "core"},
    {"id": "c", "prompt": "Capital of France?", "expected_answer": "Paris", "section": "edge_case"},
    {"id": "d", "prompt": "3+3?", "expected_answer": "6", "answer_type": "numeric", "section": "edge_case"},
]


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def evalset(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "small.jsonl", ITEMS)


def answer(text: str) -> str:
    return f"<reasoning>\nbecause\n</reasoning>\n<answer>{text}</answer>"


def score(*arguments: str, exit_code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["score", *arguments])
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout) if "--json" in arguments and not exit_code else result


def test_two_right_one_wrong_and_one_missing_are_counted(evalset: Path, tmp_path: Path) -> None:
    predictions = write_lines(
        tmp_path / "p.jsonl",
        [
            {"item_id": "a", "prediction": answer("2")},
            {"item_id": "b", "prediction": answer("5")},
            {"id": "c", "prediction": answer("paris")},
        ],
    )
    document = score("--evalset", str(evalset), "--predictions", str(predictions), "--items", "--json")
    card = document["scorecard"]
    assert (card["n_items"], card["n_scored"], card["n_errored"]) == (4, 3, 1)
    assert card["primary_score"] == 2 / 3
    assert card["coverage"] == 0.75
    assert card["verdict"].lower() == "invalid"  # under 98 % coverage
    assert (card["worst_case"], card["best_case"]) == (0.5, 0.75)
    assert {r["item_id"]: r["metrics"].get("answer_correctness") for r in document["results"]} == {
        "a": 1.0,
        "b": 0.0,
        "c": 1.0,
        "d": None,
    }
    text = score("--evalset", str(evalset), "--predictions", str(predictions)).stdout
    assert "0.667 [" in text
    assert "edge_case" in text


def test_every_bad_prediction_line_is_named(evalset: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    good = json.dumps({"item_id": "a", "prediction": "x"})
    path.write_text(f'{good}\nnot json\n{{"item_id": "a"}}\n{good}\n{{"item_id": "zz", "prediction": "x"}}\n[1]\n')
    message = score("--evalset", str(evalset), "--predictions", str(path), exit_code=1).stderr
    for line in (
        "line 2: is not JSON",
        "line 3: must be",
        "'a' was predicted before",
        "no item 'zz'",
        "line 6: must be",
    ):
        assert line in message


def test_a_valid_evalset_shows_its_statistics(evalset: Path) -> None:
    result = CliRunner().invoke(app, ["evalsets", "validate", str(evalset), "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["valid"] is True
    assert document["statistics"]["item_count"] == 4
    assert document["statistics"]["sections"] == {"core": 2, "edge_case": 2}
    assert "core 2, edge_case 2" in CliRunner().invoke(app, ["evalsets", "validate", str(evalset)]).stdout


@pytest.mark.parametrize(("key", "count"), [("eval_v1", 25), ("eval_v2", 100), ("arith_v1", 100)])
def test_every_evalset_that_ships_is_valid(key: str, count: int) -> None:
    result = CliRunner().invoke(app, ["evalsets", "validate", key, "--json"])
    assert result.exit_code == 0, result.output
    assert (
        json.loads(result.stdout)["statistics"]["item_count"] == {"eval_v1": 25, "eval_v2": 100, "arith_v1": 100}[key]
    )


def test_every_violation_of_an_evalset_is_listed_and_the_exit_code_is_1(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    rows = [ITEMS[0], ITEMS[0], {**ITEMS[1], "section": "hard"}, {**ITEMS[2], "colour": "red"}, {"id": "e"}]
    write_lines(path, rows)
    with path.open("a") as file:
        file.write("{\n")
    result = CliRunner().invoke(app, ["evalsets", "validate", str(path)])
    assert result.exit_code == 1
    document = json.loads(CliRunner().invoke(app, ["evalsets", "validate", str(path), "--json"]).stdout)
    assert document["valid"] is False
    lines = {violation["field"].split(".")[0] for violation in document["violations"]}
    assert lines == {"line 2", "line 3", "line 4", "line 5", "line 6"}
    for line in lines:
        assert f"  {line}" in result.stderr
    assert len({v["field"] for v in document["violations"] if v["field"].startswith("line 5")}) == 2


def test_an_evalset_that_is_not_utf8_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"id": "\xe9"}\n')
    result = CliRunner().invoke(app, ["evalsets", "validate", str(path)])
    assert result.exit_code == 1
    assert "UTF-8" in result.stderr
