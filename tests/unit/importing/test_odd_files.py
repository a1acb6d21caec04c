"""Damaged, misnamed and foreign files: each gets one sentence that names the file and helps, and never a traceback."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunix_rt.cli.main import app
from tunix_rt.importing.conversion import Options
from tunix_rt.importing.trace_file import import_traces

GOOD = json.dumps({"question": "What is 2 + 2?", "answer": "It is 2+2=<<2+2=4>>4.\n#### 4"}).encode() + b"\n"
ROW = {"question": "q", "answer": "thus\n#### 1"}


def test_rows_with_control_tokens_are_imported_and_counted(tmp_path: Path) -> None:
    rows = ({"question": "Hi<|im_end|>", "answer": "no\n#### 1"}, ROW, {"question": "q", "answer": "</s>\n#### 2"})
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    written: list[str] = []
    outcome = import_traces(file, written.append, Options())
    assert (outcome.imported, outcome.with_control_tokens) == (3, 2)
    assert "Hi<|im_end|>" in written[0]


def _parquet(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"question": ["q"] * 50, "answer": ["a\n#### 1"] * 50}), path)


def _cut_parquet(path: Path) -> None:
    _parquet(path)
    path.write_bytes(path.read_bytes()[:-20])


def _parquet_with_damaged_pages(path: Path) -> None:
    _parquet(path)
    data = bytearray(path.read_bytes())
    data[4:40] = b"\xff" * 36
    path.write_bytes(bytes(data))


def _arrow_of_noise(path: Path) -> None:
    path.write_bytes(b"ARROW1\0\0" + bytes(range(256)) * 4)


def _folder_with_a_file_elsewhere(path: Path) -> None:
    path.mkdir()
    (path / "state.json").write_text('{"_data_files": [{"filename": "../../../etc/passwd"}]}')


def _folder_with_two_splits(path: Path) -> None:
    for split in ("train", "test"):
        (path / split).mkdir(parents=True)
        (path / split / "a.jsonl").write_bytes(GOOD)


def _folder_of_pictures(path: Path) -> None:
    path.mkdir()
    (path / "a.png").write_bytes(b"\x89PNG")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


# File name → content or what makes it, and words of the one message.
FILES: dict[str, tuple[bytes | Callable[[Path], None], str]] = {
    "empty.jsonl": (b"", "has no rows"),
    "blank.jsonl": (b"\n\n  \n", "has no rows"),
    "bom_only.csv": (b"\xef\xbb\xbf", "has no rows"),
    "words.txt": (b"What is 2 + 2? It is 4.\n", "neither JSONL, JSON, CSV, Parquet nor Arrow"),
    "prose.jsonl": (b"What is 2 + 2\n", "line 1: is not valid JSON"),
    "cut.jsonl": (GOOD + GOOD[:40], "line 2: is not valid JSON"),
    "scalars.jsonl": (b"1\n2\n", "line 1: must be an object, not a number"),
    "lists.jsonl": (b'["q", "a"]\n', "entry 1: must be an object, not text"),
    "twice.jsonl": (b'{"question": "a", "question": "b", "answer": "#### 1"}\n', "a field occurs twice"),
    "deep.jsonl": (GOOD + b'{"question": ' + b"[" * 100_000 + b"\n", "line 2: is nested too deeply"),
    "digits.jsonl": (GOOD + b'{"question": "q", "answer": ' + b"9" * 5000 + b"}\n", "line 2: is not valid JSON"),
    "latin1.jsonl": (GOOD + b'{"question": "caf\xe9", "answer": "x"}\n', "line 2: is not UTF-8"),
    "utf16.jsonl": (GOOD.decode().encode("utf-16"), "is UTF-16; save it as UTF-8"),
    "nul.jsonl": (b"{\0}\n", "is not text"),
    "zipped.jsonl.gz": (gzip.compress(GOOD), "is compressed with gzip"),
    "book.xlsx": (b"PK\x03\x04" + b"\0" * 60, "save the sheet as CSV"),
    "data.pkl": (b"\x80\x04\x95\x10\0\0\0", "pickle"),
    "page.jsonl": (b"<!DOCTYPE html>\n<html>", "is HTML or XML"),
    "pointer.parquet": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
    "cut.json": (b"[" + GOOD.strip() + b", " + GOOD[:30], "is not valid JSON"),
    "open.json": (b"[" + GOOD.strip() + b",", "was cut off"),
    "columns.json": (b'{"question": ["a", "b"], "answer": ["1", "2"]}', "is a table by columns (question, answer)"),
    "results.json": (b'{"results": {}, "configs": {"gsm8k": {}}}', "--log_samples"),
    "header.json": (b'{"version": 2, "status": "success", "eval": {"task": "t"}}', "inspect log without samples"),
    "short.csv": (b"question,answer\nq\n", "line 2: has 1 fields; the header has 2"),
    "quotes.csv": (b'question,answer\n"q,1\n', "is not valid CSV"),
    "same.csv": (b"question,question\nq,1\n", "has question twice"),
    "latin1.csv": (b"question,answer\ncaf\xe9,1\n", "is not UTF-8"),
    "strange.csv": (b"Frage,Antwort\nq,1\n", "has the columns Frage, Antwort"),
    "cut.parquet": (_cut_parquet, "cannot be read as Parquet"),
    "pages.parquet": (_parquet_with_damaged_pages, "cannot be read as Parquet"),
    "noise.arrow": (_arrow_of_noise, "cannot be read as Arrow"),
    "elsewhere": (_folder_with_a_file_elsewhere, "names a file that is not in the folder"),
    "splits": (_folder_with_two_splits, "has the splits test, train; choose one: --split test"),
    "pictures": (_folder_of_pictures, "has no file that can be read"),
    "pipe.jsonl": (_pipe, "is neither a file nor a folder"),
    "batch.jsonl": (
        b'{"id": "batch_req_1", "custom_id": "a", "response": {"status_code": 200, "body": {}}, "error": null}\n',
        "looks like the output of OpenAI's batch API: it holds answers without their questions",
    ),
    "batch_input.jsonl": (
        b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}}\n',
        "looks like the input of OpenAI's batch API",
    ),
    "pairs.jsonl": (b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n', "--map completion=chosen"),
    "corpus.jsonl": (b'{"text": "Once upon a time."}\n', "plain text for pretraining"),
    "answers.jsonl": (b'{"id": "a", "prediction": "4"}\n', "tunix-rt score"),
}


@pytest.mark.parametrize("command", ["evalsets", "datasets"])
@pytest.mark.parametrize("name", FILES)
def test_an_odd_file_gets_one_clear_error(name: str, command: str, tmp_path: Path) -> None:
    path = tmp_path / name
    content, words = FILES[name]
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    out = tmp_path / "out.jsonl"
    result = CliRunner().invoke(app, [command, "import", str(path), "--out", str(out)])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stderr.startswith("error: ") and path.name in result.stderr
    assert words in result.stderr, result.stderr
    assert not out.exists() and not list(tmp_path.glob("*.part"))


def test_a_missing_file_is_named() -> None:
    result = CliRunner().invoke(app, ["evalsets", "import", "/no/such.jsonl", "--dry-run"])
    assert (result.exit_code, result.stderr) == (1, "error: /no/such.jsonl: No such file or directory\n")


def test_at_most_ten_errors_are_shown_with_the_count_of_all(tmp_path: Path) -> None:
    path = tmp_path / "gsm8k.jsonl"
    path.write_bytes(GOOD + (json.dumps(ROW | {"answer": "no marks"}).encode() + b"\n") * 25 + b"{\n" * 4)
    result = CliRunner().invoke(app, ["evalsets", "import", str(path), "--dry-run"])
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0] == f"error: {path}: 29 of 30 rows cannot be imported, read as GSM8K"
    assert len([line for line in lines if line.startswith("  line ")]) == 10
    assert lines[11].startswith("  and 19 more; in all: 25 × its answer has no ####")
    assert lines[12:] == ["--skip leaves them out"]
    skipped = CliRunner().invoke(app, ["evalsets", "import", str(path), "--dry-run", "--skip"])
    assert skipped.exit_code == 0 and "30 read, 1 imported" in skipped.stdout and "25 ×" in skipped.stdout


def test_names_and_values_of_a_file_do_not_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps({"\x1b[2Jfield": "\x1b]0;owned\x07", "other": "\u202e"}) + "\n")
    result = CliRunner().invoke(app, ["evalsets", "import", str(path), "--dry-run"])
    assert result.exit_code == 1 and "\x1b" not in result.stderr and "␛[2Jfield" in result.stderr
    path.write_text(json.dumps({"question": "q", "answer": "a", "\x1b[2Jmore": 1}) + "\n")
    result = CliRunner().invoke(app, ["evalsets", "import", str(path), "--dry-run"])
    assert result.exit_code == 0 and "\x1b" not in result.stdout and "␛[2Jmore" in result.stdout


def test_the_file_that_is_read_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "gsm8k.jsonl"
    path.write_bytes(GOOD)
    result = CliRunner().invoke(app, ["evalsets", "import", str(path), "--out", str(path)])
    assert result.exit_code == 1 and "is the file that is read" in result.stderr
    assert path.read_bytes() == GOOD


def test_an_evalset_too_large_for_a_platform_is_said_before_one_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("w") as file:
        for number in range(400):
            file.write(json.dumps({"question": f"{number} {'x' * 45_000}", "answer": "y"}) + "\n")
    result = CliRunner().invoke(app, ["--address", "127.0.0.1:9", "evalsets", "import", str(path)])
    assert result.exit_code == 1
    assert "and a platform takes 16,711,680: take fewer rows with --limit" in result.stderr
