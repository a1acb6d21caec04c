"""`score` with the results of other tools: by whose notation, for which item, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tunix_rt.cli.main import app

ITEMS = [
    {"id": "a", "prompt": "What is the capital of Mali?", "expected_answer": "Bamako"},
    {"id": "b", "prompt": "What is 2 and 2 together?", "expected_answer": 4, "answer_type": "numeric"},
]


@pytest.fixture
def score(tmp_path: Path) -> Any:
    def scored(content: Any, *options: str, name: str = "p.jsonl", exit_code: int = 0) -> Any:
        evalset, predictions = tmp_path / "evalset.jsonl", tmp_path / name
        evalset.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
        lines = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in content)
        predictions.write_text(content if isinstance(content, str) else lines)
        found = CliRunner().invoke(
            app, ["score", "--evalset", str(evalset), "--predictions", str(predictions), *options]
        )
        assert found.exit_code == exit_code, found.output
        return json.loads(found.stdout) if "--json" in options and not exit_code else found

    return scored


def verdicts(document: Any) -> dict[tuple[str, int], Any]:
    return {
        (row["item_id"], row["sample_index"]): row["metrics"].get("answer_correctness", row["outcome"])
        for row in document["results"]
    }


BOTH_RIGHT = {("a", 0): 1.0, ("b", 0): 1.0}


@pytest.mark.parametrize(
    "names",
    [("id", "response"), ("item_id", "output"), ("question_id", "completion"), ("custom_id", "generated_text")],
)
def test_the_usual_names_are_read(names: tuple[str, str], score: Any) -> None:
    rows = [dict(zip(names, pair, strict=True)) for pair in (("a", "Bamako"), ("b", "4"))]
    assert verdicts(score(rows, "--json")) == BOTH_RIGHT


def test_other_names_are_mapped_and_tables_are_read(score: Any) -> None:
    table = "nr,said\na,Bamako\nb,4\n"
    assert verdicts(score(table, "--map", "id=nr", "--map", "prediction=said", "--json", name="p.csv")) == BOTH_RIGHT
    assert "no such field" in score(table, "--map", "idd=nr", name="p.csv", exit_code=1).stderr


def test_a_list_is_samples(score: Any) -> None:
    rows = [{"id": "a", "prediction": ["Bamako", "Accra", None]}, {"id": "b", "outputs": ["4", "4", "4"]}]
    assert verdicts(score(rows, "--json")) == {("a", 0): 1.0, ("a", 1): 0.0, ("a", 2): "ERRORED"} | {
        ("b", index): 1.0 for index in range(3)
    }


def _batch(custom_id: str, *texts: str, status: int = 200) -> dict[str, Any]:
    choices = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for index, text in enumerate(texts)
    ]
    body = {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": choices}
    response = {"status_code": status, "request_id": "req_1", "body": body}
    return {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": response, "error": None}


def test_the_output_of_openai_s_batch_api(score: Any) -> None:
    assert verdicts(score([_batch("b", "4"), _batch("a", "Bamako")], "--json")) == BOTH_RIGHT
    expired = {"id": "batch_req_1", "custom_id": "a", "response": None, "error": {"code": "batch_expired"}}
    failed = verdicts(score([expired, _batch("b", status=500)], "--json"))
    assert failed == {("a", 0): "ERRORED", ("b", 0): "ERRORED"}
    assert verdicts(score([_batch("a", "Bamako", "Accra"), _batch("b", "4", "5")], "--json"))["a", 1] == 0.0


def _sample(doc_id: int, question: str, *texts: str, filter: str = "strict-match") -> dict[str, Any]:
    return {"doc_id": doc_id, "doc": {"question": question, "answer": "#### 4"}, "target": "#### 4"} | {
        "arguments": {"gen_args_0": {"arg_0": f"Q: {question}", "arg_1": {"until": ["\n"]}}},
        "resps": [list(texts)],
        "filtered_resps": [texts[0]],
        "filter": filter,
        "exact_match": 1.0,
    }


def test_samples_of_lm_eval_are_taken_by_position_once_for_all_filters(score: Any) -> None:
    rows = [_sample(1, ITEMS[1]["prompt"], "4"), _sample(0, ITEMS[0]["prompt"], "Bamako")]
    rows += [row | {"filter": "flexible-extract", "filtered_resps": ["x"]} for row in rows]
    assert verdicts(score(rows, "--json")) == BOTH_RIGHT
    message = score([_sample(0, ITEMS[1]["prompt"], "4")], exit_code=1).stderr
    assert "line 1.id: document 0 asks another question than item 'a' in its place" in message
    chosen = _sample(0, ITEMS[0]["prompt"], "") | {"resps": [[[-1.5, False]], [[-0.5, True]]]}
    assert "holds log-likelihoods" in score([chosen], exit_code=1).stderr


def test_logs_of_inspect(score: Any) -> None:
    def sample(id: str, epoch: int, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "source": "generate", "content": text}
        output = {"model": "m", "choices": [{"message": message, "stop_reason": "stop"}]}
        return {"id": id, "epoch": epoch, "input": "q", "target": "t", "messages": [message], "output": output}

    samples = [sample("a", 2, "Accra"), sample("a", 1, "Bamako"), sample("b", 1, "4"), sample("b", 2, "5")]
    log = {"version": 2, "status": "success", "eval": {"task": "t"}, "samples": samples}
    found = verdicts(score(json.dumps(log, indent=2), "--json", name="log.json"))
    assert found == {("a", 0): 1.0, ("a", 1): 0.0, ("b", 0): 1.0, ("b", 1): 0.0}


def test_half_of_a_surrogate_pair_costs_one_character_and_not_the_file(score: Any) -> None:
    lines = '{"id": "a", "prediction": "Bamako"}\n{"id": "b", "prediction": "\\ud83d so\\n4"}\n'
    assert verdicts(score(lines, "--json")) == BOTH_RIGHT
    assert "1 predictions had halves of surrogate pairs" in score(lines).stdout


def test_escapes_of_a_model_are_shown_and_not_obeyed(score: Any) -> None:
    rows = [{"id": "a", "prediction": "\x1b[2J\x1b]0;owned\x07\u202eBamako"}, {"id": "b", "prediction": "4"}]
    shown = score(rows, "--items").stdout
    assert "\x1b" not in shown and "\u202e" not in shown and "␛[2J" in shown


def test_ten_wrong_rows_are_named_and_all_are_counted(score: Any) -> None:
    rows: list[Any] = [{"id": f"z{number}", "prediction": "x"} for number in range(25)]
    message = score([*rows, "{", "[1]", {"id": "a"}, {"id": "a", "prediction": 4.5}], exit_code=1).stderr
    assert len([line for line in message.splitlines() if line.startswith("  line ")]) == 10
    assert "and 19 more violations" in message
    message = score(["{", {"id": "a"}, {"prediction": "x"}, {"id": True, "prediction": "x"}], exit_code=1).stderr
    assert "line 1.json: is not valid JSON" in message
    assert "line 2.prediction: must be text, a list of texts, or null" in message
    assert "line 3.id: must be the id of an item" in message and "line 4.id: must be the id" in message


def test_results_come_back_from_the_logs_that_are_written(score: Any, tmp_path: Path) -> None:
    rows = [{"id": "a", "prediction": ["Bamako", None]}, {"id": "b", "prediction": ["5", "so\n4"]}]
    expected = {("a", 0): 1.0, ("a", 1): "ERRORED", ("b", 0): 0.0, ("b", 1): 1.0}
    for log_format, name in (("lm-eval", "log.jsonl"), ("inspect", "log.json")):
        log = tmp_path / f"made_{name}"
        assert verdicts(score(rows, "--log", str(log), "--log-format", log_format, "--json")) == expected
        assert verdicts(score(log.read_text(), "--json", name=name)) == expected
    document = json.loads((tmp_path / "made_log.json").read_text())
    assert (document["version"], document["eval"]["config"], document["eval"]["model"]) == (2, {"epochs": 2}, "p")
    accuracy = {score["name"]: score["metrics"] for score in document["results"]["scores"]}["answer_correctness"]
    assert accuracy == {"accuracy": {"name": "accuracy", "value": 2 / 3, "params": {}}}
    first, second = (json.loads(line) for line in (tmp_path / "made_log.jsonl").read_text().splitlines())
    assert (first["doc_id"], first["target"], first["resps"]) == (0, "Bamako", [["Bamako", None]])
    assert (second["answer_correctness"], second["doc"]["prompt"]) == (0.5, ITEMS[1]["prompt"])
