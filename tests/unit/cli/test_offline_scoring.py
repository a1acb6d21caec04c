"""`score` and `evalsets validate`: without a platform, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tunix_rt.cli.commands.scores import SCORE_EXAMPLE as EXAMPLE
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
    document = score("--evalset", str(evalset), "--predictions", str(predictions), "--json")
    card = document["scorecard"]
    assert (card["n_items"], card["n_scored"], card["n_errored"]) == (4, 3, 1)
    assert card["primary_score"] == 2 / 3
    assert card["coverage"] == 0.75
    assert card["verdict"] == "INVALID"  # under 98 % coverage
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
    assert "no prediction for 1: d" in text
    assert document["missing"] == [{"item_id": "d", "sample_index": 0}]
    assert document["scorer_version"] == "tunix-rt-scorer/3"
    listed = score("--evalset", str(evalset), "--predictions", str(predictions), "--items").stdout
    rows = [line.split()[:3] for line in listed.splitlines()]
    assert ["b", "SCORED", "0"] in rows and ["d", "ERRORED", "–"] in rows


def test_several_predictions_of_an_item_are_samples_and_too_few_lower_the_coverage(
    evalset: Path, tmp_path: Path
) -> None:
    rows = [{"id": item["id"], "prediction": answer(item["expected_answer"])} for item in ITEMS]
    rows += [{"id": "a", "prediction": answer("0")}, {"id": "b", "prediction": None}]
    predictions = write_lines(tmp_path / "p.jsonl", rows)
    document = score("--evalset", str(evalset), "--predictions", str(predictions), "--json")
    card = document["scorecard"]
    # a is right in one sample of two; b, c and d in the one they have; five samples of eight are scored.
    assert (card["n_items"], card["n_scored"], card["primary_score"], card["coverage"]) == (4, 4, 3.5 / 4, 5 / 8)
    assert document["samples_per_item"] == 2
    assert document["missing"] == [{"item_id": "c", "sample_index": 1}, {"item_id": "d", "sample_index": 1}]
    # Only a has two scored samples, of which one is right.
    repeats = {(r["statistic"], r["k"]): (r["value"], r["n_items"]) for r in card["repeats"]}
    assert repeats["pass@k", 2] == (1.0, 1)
    assert repeats["maj@k", 2] == (0.5, 1)  # two answers with a vote each
    outcomes = {(r["item_id"], r["sample_index"]): r["outcome"] for r in document["results"]}
    assert outcomes[("a", 1)] == "SCORED" and outcomes[("b", 1)] == outcomes[("c", 1)] == "ERRORED"
    text = score("--evalset", str(evalset), "--predictions", str(predictions), "--items").stdout
    assert "pass@2 1" in text
    assert "2 per item" in text and "a#1" in text and "no prediction for 2: c#1, d#1" in text


def test_verdict_does_not_decide_the_exit_code_but_files_and_options_do(evalset: Path, tmp_path: Path) -> None:
    wrong = write_lines(tmp_path / "p.jsonl", [{"id": item["id"], "prediction": "?"} for item in ITEMS])
    options = ("--evalset", str(evalset), "--predictions", str(wrong))
    assert score(*options, "--json")["scorecard"]["verdict"] == "FAIL"
    assert "nowhere.jsonl" in score("--evalset", str(evalset), "--predictions", "nowhere.jsonl", exit_code=1).stderr
    assert "neither a file nor" in score("--evalset", "nothing", "--predictions", str(wrong), exit_code=1).stderr
    score("--evalset", str(evalset), exit_code=2)
    score(*options, "--threshold", "1.5", exit_code=2)


def test_help_shows_a_line_that_can_be_scored(tmp_path: Path) -> None:
    text = score("--help").stdout
    line = next(line for line in EXAMPLE.splitlines() if line.startswith("{"))
    assert line.split(", ")[0] in text
    path = tmp_path / "p.jsonl"
    path.write_text(line + "\n")
    document = score("--evalset", "arith_v1", "--predictions", str(path), "--json")
    assert document["results"][0]["metrics"]["answer_correctness"] == 1.0


def test_every_bad_prediction_line_is_named(evalset: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    good = json.dumps({"item_id": "a", "sample_index": 0, "prediction": "x"})
    path.write_text(f'{good}\nnot json\n{{"item_id": "a"}}\n{good}\n{{"item_id": "zz", "prediction": "x"}}\n[1]\n')
    message = score("--evalset", str(evalset), "--predictions", str(path), exit_code=1).stderr
    for line in (
        "line 2.json: is not valid JSON",
        "line 3.prediction: must be text",
        "line 4.sample_index: duplicate sample 0 of 'a'",
        "line 5.id: the evalset has no item 'zz'",
        "line 6.json: must be an object",
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
