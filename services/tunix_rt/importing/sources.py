"""The rows of a file or folder, whatever its container: recognised by its first bytes, not by its name alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunix_rt.importing.arrow_rows import arrow_rows, parquet_rows
from tunix_rt.importing.csv_rows import csv_rows
from tunix_rt.importing.folders import folder_files
from tunix_rt.importing.json_rows import MAX_ROW_BYTES, json_rows, jsonl_rows
from tunix_rt.importing.rows import Row, UnreadableFile

# What a file begins with that is none of ours, and what to do about it.
_OTHERS = {
    b"\x1f\x8b": "is compressed with gzip; unpack it first (gunzip)",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; unpack it first (unzstd)",
    b"BZh": "is compressed with bzip2; unpack it first (bunzip2)",
    b"\xfd7zXZ": "is compressed with xz; unpack it first (unxz)",
    b"PK": "is a zip archive; unpack it first. Of an Excel workbook save the sheet as CSV; "
    "of an inspect .eval log: inspect log dump FILE > log.json",
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
    b"SQLite format 3": "is an SQLite database; write the table as CSV: sqlite3 -csv -header",
    b"\x80": "is not text: a Python pickle, perhaps, which is never read because it can run code",
    b"<": "is HTML or XML; a download page, perhaps, in place of the file",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself; fetch it with git lfs pull",
}


def rows_of(path: Path, split: str = "") -> Iterator[Row]:
    """The rows of ``path`` in order; of a folder those of its files, of ``split`` if it has several.

    Raises `UnreadableFile` where there is nothing to read.
    """
    if path.is_dir():
        files = folder_files(path, split)
        for file in files:
            name = file.relative_to(path)
            for row in _file_rows(file):
                yield replace(row, place=f"{name}: {row.place}") if len(files) > 1 else row
        return
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    if split:
        raise UnreadableFile(f"--split is for folders; {path} is a file")
    yield from _file_rows(path)


def _file_rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise UnreadableFile(f"{path} is neither a file nor a folder")
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith(b"PAR1"):
        yield from parquet_rows(path)
    elif start.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        yield from arrow_rows(path)
    else:
        yield from _text_rows(path, start)


def _text_rows(path: Path, start: bytes) -> Iterator[Row]:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, what in _OTHERS.items():
        if start.startswith(magic) or (magic == b"<" and text.startswith(magic)):
            raise UnreadableFile(f"{path} {what}")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        yield from csv_rows(path)
        return
    if b"\0" in start:
        raise UnreadableFile(f"{path} is not text; JSONL, JSON, CSV, Parquet and Arrow can be read")
    with path.open("rb") as file:
        if text.startswith(b"[") or (text.startswith(b"{") and not _first_line_is_json(path)):
            yield from json_rows(file, path)
        elif text.startswith(b"{") or suffix in (".jsonl", ".ndjson", ".json") or not text:
            yield from _lines_or_document(path)
        elif b"," in start.split(b"\n")[0] or b"\t" in start.split(b"\n")[0]:
            yield from csv_rows(path)
        else:
            begins = start[:40].decode("utf-8", "replace").split("\n")[0]
            raise UnreadableFile(f"{path} is neither JSONL, JSON, CSV, Parquet nor Arrow: it begins with {begins!r}")


def _lines_or_document(path: Path) -> Iterator[Row]:
    """JSONL; a file that is one line is a document, which may hold its rows in a list."""
    with path.open("rb") as file:
        line = file.readline(MAX_ROW_BYTES + 1)
        one_line = not file.read(2**16).strip()
        file.seek(0)
        if one_line and line.strip().startswith(b"{"):
            yield from json_rows(file, path, "line 1")
        else:
            yield from jsonl_rows(file)


def _first_line_is_json(path: Path) -> bool:
    """Whether the first line that is not blank is a whole value; a document over several lines is not."""
    with path.open("rb") as file:
        line = b""
        while not line.strip():
            line = file.readline(MAX_ROW_BYTES + 1)
        following = file.readline(2**16).strip()
    # Of JSONL whose first line is damaged the next one begins with a brace.
    return _is_json(line) or (path.suffix.lower() in (".jsonl", ".ndjson") and not _goes_on(line, following))


def _goes_on(line: bytes, following: bytes) -> bool:
    return following.startswith((b'"', b"}")) and line.rstrip().endswith((b"{", b",", b"["))


def _is_json(line: bytes) -> bool:
    found: Any
    try:
        found = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict)
