"""Rows of CSV and TSV files. A file without a header is MMLU's: question, four options, letter."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunix_rt.importing.rows import Row, UnreadableFile

MAX_FIELD_CHARS = 8 * 2**20
MMLU_COLUMNS = ("question", "A", "B", "C", "D", "answer")


def csv_rows(path: Path) -> Iterator[Row]:
    """A row for each record, numbered by the line that it ends on."""
    csv.field_size_limit(MAX_FIELD_CHARS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            first_line = file.readline(MAX_FIELD_CHARS)
            file.seek(0)
            reader = csv.reader(file, delimiter=_delimiter(path, first_line), strict=True)
            header = next(reader, None)
            if header is None:
                return
            columns = _columns(header, path)
            if columns == MMLU_COLUMNS and header[0].strip().lower() != "question":
                yield Row("line 1", dict(zip(columns, header, strict=True)))
            yield from _records(reader, columns)
        except UnicodeDecodeError as error:
            raise UnreadableFile(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def _records(reader: Any, columns: tuple[str, ...]) -> Iterator[Row]:
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(f"line {reader.line_num}", None, f"is not valid CSV ({error})")
            continue
        if not record:
            continue
        place = f"line {reader.line_num}"
        if len(record) != len(columns):
            yield Row(place, None, f"has {len(record)} fields; the header has {len(columns)}")
        else:
            yield Row(place, dict(zip(columns, record, strict=True)))


def _columns(header: list[str], path: Path) -> tuple[str, ...]:
    names = tuple(name.strip() for name in header)
    if len(names) == 6 and names[5] in "ABCD" and names[5]:
        return MMLU_COLUMNS
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UnreadableFile(f"{path}: the header has {', '.join(twice)} twice; each column needs its own name")
    return tuple(name or f"column {number}" for number, name in enumerate(names, start=1))


def _delimiter(path: Path, first_line: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    return next((mark for mark in ",;\t" if mark in first_line), ",")
