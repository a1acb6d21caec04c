"""Containers: the same rows from JSONL, JSON, CSV, Parquet, Arrow and folders as Hugging Face's datasets saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.importing.rows import UnreadableFile
from tunix_rt.importing.sources import rows_of

ROWS = [{"question": f'What is {n} + 1, or "{n}"?\nSay it.', "answer": f"It is {n + 1}."} for n in range(1_500)]


def values(path: Path, split: str = "") -> list[dict[str, Any] | None]:
    return [row.values for row in rows_of(path, split)]


def test_jsonl_json_lists_and_csv_hold_the_same_rows(tmp_path: Path) -> None:
    lines, document, pretty, table = (tmp_path / name for name in ("a.jsonl", "b.json", "c.json", "d.csv"))
    lines.write_text("\ufeff" + "\r\n".join(json.dumps(row) for row in ROWS))
    document.write_text(json.dumps(ROWS))
    pretty.write_text(json.dumps({"version": 1, "data": ROWS}, indent=2))
    quoted = [[value.replace('"', '""') for value in row.values()] for row in ROWS]
    table.write_text("question,answer\r\n" + "".join(f'"{q}","{a}"\r\n' for q, a in quoted), newline="")
    for path in (lines, document, pretty, table):
        assert values(path) == ROWS, path.name


def test_a_value_over_a_window_s_end_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rows = [{"question": "ä😀" * 200_000, "answer": str(number)} for number in range(3)]
    path.write_text(json.dumps(rows, ensure_ascii=False))
    assert values(path) == rows


def test_objects_over_several_lines_one_behind_the_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("\n".join(json.dumps(row, indent=1) for row in ROWS[:5]))
    assert values(path) == ROWS[:5]


def test_tabs_and_semicolons_part_fields_too(tmp_path: Path) -> None:
    for name, mark in (("a.tsv", "\t"), ("b.csv", ";")):
        path = tmp_path / name
        path.write_text(f"question{mark}answer\n1, 2{mark}3\n")
        assert values(path) == [{"question": "1, 2", "answer": "3"}]


def test_parquet_and_arrow(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import ipc, parquet

    table = pyarrow.Table.from_pylist(ROWS)
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    with ipc.new_file(tmp_path / "b.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=400)
    with ipc.new_stream(tmp_path / "c.arrow", table.schema) as stream:
        stream.write_table(table, max_chunksize=400)
    for name in ("a.parquet", "b.arrow", "c.arrow"):
        assert values(tmp_path / name) == ROWS
        assert [row.place for row in rows_of(tmp_path / name)][-1] == "row 1500"


def _saved(folder: Path, rows: list[dict[str, Any]]) -> None:
    """As ``Dataset.save_to_disk`` of Hugging Face's datasets writes it."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import ipc

    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-00002.arrow" for number in range(2)]
    for name, part in zip(names, (rows[:1_000], rows[1_000:]), strict=True):
        table = pyarrow.Table.from_pylist(part)
        with ipc.new_stream(folder / name, table.schema) as stream:
            stream.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text('{"features": {}}')


def test_a_dataset_saved_by_hugging_face(tmp_path: Path) -> None:
    _saved(tmp_path / "one", ROWS)
    assert values(tmp_path / "one") == ROWS
    (tmp_path / "dict").mkdir()
    for split in ("train", "test"):
        _saved(tmp_path / "dict" / split, ROWS[:1_200])
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert values(tmp_path / "dict", "test") == ROWS[:1_200]
    with pytest.raises(UnreadableFile, match="has the splits test, train; choose one: --split test"):
        values(tmp_path / "dict")


def test_a_folder_written_by_the_datasets_package(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS[:3])}).save_to_disk(str(tmp_path / "saved"))
    assert values(tmp_path / "saved") == ROWS[:3]


def test_a_folder_of_files_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """As MATH comes: a file for each problem."""
    for number in (10, 2, 1):
        path = tmp_path / "test" / "algebra" / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"problem": str(number)}, indent=4))
    (tmp_path / "test" / "algebra" / "LICENSE").write_text("x")
    (tmp_path / "outside.json").symlink_to("/etc/hostname")
    found = list(rows_of(tmp_path))
    assert [row.values for row in found] == [{"problem": "1"}, {"problem": "2"}, {"problem": "10"}]
    assert found[0].place == "test/algebra/1.json: entry 1"
    assert values(tmp_path, "test") == [row.values for row in found]
    with pytest.raises(UnreadableFile, match="has no split 'train'; it has test"):
        values(tmp_path, "train")
