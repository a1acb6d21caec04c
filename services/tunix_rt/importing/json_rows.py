"""Rows of JSONL and JSON files, one at a time: memory does not grow with the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from json import JSONDecoder
from pathlib import Path
from typing import Any, BinaryIO

from tunix_rt.importing.rows import Row, UnreadableFile, kind_of

MAX_ROW_BYTES = 16 * 2**20
# A document that is one object is read as a whole.
MAX_OBJECT_BYTES = 256 * 2**20
# Where the rows are in documents that are one object: inspect's logs, the datasets server, SQuAD and the like.
_ROW_LISTS = ("samples", "rows", "data", "examples", "items", "questions", "instances", "train", "test", "validation")
_CHUNK = 2**20
_SPACE = re.compile(r"[\s,]*")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class WrittenFloat(float):
    """A float that remembers how it was written: an answer of 0.10 is that text."""

    written: str

    def __new__(cls, written: str) -> WrittenFloat:
        value = super().__new__(cls, written)
        value.written = written
        return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a field occurs twice")
    return document


# NaN is what pandas writes for a missing value.
_DECODER = JSONDecoder(parse_float=WrittenFloat, parse_constant=lambda name: None, object_pairs_hook=_unique)


def jsonl_rows(file: BinaryIO) -> Iterator[Row]:
    """A row for each line that is not blank."""
    number = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        place = f"line {number}"
        if len(line) > MAX_ROW_BYTES:
            yield Row(place, None, f"is longer than {MAX_ROW_BYTES >> 20} MiB")
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_ROW_BYTES)
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield _row(place, line)


def _row(place: str, line: bytes) -> Row:
    try:
        value = _DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        return Row(place, None, f"is not UTF-8 (byte {error.start})")
    except (ValueError, RecursionError) as error:
        return Row(place, None, _why(error))
    return _checked(place, value, b"\\u" in line and _SURROGATE_ESCAPE.search(line) is not None)


def _why(error: Exception) -> str:
    return "is nested too deeply" if isinstance(error, RecursionError) else f"is not valid JSON ({error})"


def _checked(place: str, value: Any, surrogates: bool) -> Row:
    if isinstance(value, dict) and list(value) == ["row_idx", "row", "truncated_cells"]:
        value = value["row"]
    if not isinstance(value, dict):
        return Row(place, None, f"must be an object, not {kind_of(value)}")
    if not surrogates:
        return Row(place, value)
    whole = without_lone_surrogates(value)
    return Row(place, whole, repaired=whole != value)


def without_lone_surrogates(value: Any) -> Any:
    """``value`` with U+FFFD in place of halves of surrogate pairs, which no UTF-8 can hold."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [without_lone_surrogates(each) for each in value]
        case dict():
            return {without_lone_surrogates(name): without_lone_surrogates(each) for name, each in value.items()}
        case _:
            return value


def json_rows(file: BinaryIO, path: Path, first_place: str = "entry 1") -> Iterator[Row]:
    """The entries of a list, the objects that stand one behind the other, or the rows of a document that is one."""
    values = _values(file, path)
    first = next(values, None)
    second = next(values, None)
    if first is not None and second is None and first.values is not None:
        yield from _rows_of_document(replace(first, place=first_place), path)
        return
    for found, place in ((first, first_place), (second, "entry 2")):
        if found is not None:
            yield replace(found, place=place)
    for number, found in enumerate(values, start=3):
        yield replace(found, place=f"entry {number}")


def _rows_of_document(whole: Row, path: Path) -> Iterator[Row]:
    document = whole.values or {}
    for name in _ROW_LISTS:
        rows = document.get(name)
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            for number, row in enumerate(rows):
                yield _checked(f"{name}[{number}]", row, False)
            return
    if len(document) > 1 and all(_is_column(column) for column in document.values()):
        raise UnreadableFile(
            f"{path} is a table by columns ({', '.join(document)[:200]}); write one object a row: "
            'in pandas to_json(orient="records", lines=True)'
        )
    if "results" in document and ("configs" in document or "config" in document):
        raise UnreadableFile(
            f"{path} holds lm-eval's summary, which has no questions and answers; "
            "run lm_eval with --log_samples and take samples_*.jsonl"
        )
    if "eval" in document and "status" in document:
        raise UnreadableFile(f"{path} is an inspect log without samples; it needs the whole log, not the header")
    yield whole


def _is_column(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and not isinstance(value[0], dict | list)


def _values(file: BinaryIO, path: Path) -> Iterator[Row]:
    """The values of a JSON file that is a list or holds one value behind the other."""
    source = _Text(file, path)
    whole = source.skip_space()
    inside = whole == "["
    if inside:
        source.at += 1
    while (character := source.skip_space()) and not (inside and character == "]"):
        try:
            value = source.value(MAX_ROW_BYTES if inside else MAX_OBJECT_BYTES)
        except (ValueError, RecursionError) as error:
            # Where the next row begins cannot be told.
            yield Row("", None, _why(error))
            return
        yield _checked("", value, source.escapes_surrogates())
    if inside and character != "]":
        yield Row("", None, "is not valid JSON (the list has no end: the file was cut off)")


class _Text:
    """A window on the decoded file."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._rest = b""
        self.text, self.at, self.ended = "", 0, False
        self._begins, self._read = True, ""

    def more(self, size: int = _CHUNK) -> None:
        """Read on; what was used is dropped."""
        data = self._file.read(size)
        self.ended = not data
        data = self._rest + data
        # A character may be cut: at most three of its bytes wait for the rest.
        for keep in range(4 if not self.ended else 1):
            try:
                text = data[: len(data) - keep].decode()
            except UnicodeDecodeError as error:
                if keep == 3 or self.ended or error.start < len(data) - 4:
                    raise UnreadableFile(f"{self._path} is not UTF-8") from error
                continue
            self._rest = data[len(data) - keep :]
            break
        if self._begins:
            text, self._begins = text.removeprefix("\ufeff"), False
        self.text, self.at = self.text[self.at :] + text, 0

    def skip_space(self) -> str:
        """The next character that is neither white space nor a comma; "" at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def escapes_surrogates(self) -> bool:
        """Whether the last value was written with escapes of surrogates."""
        return "\\u" in self._read and _SURROGATE_ESCAPE.search(self._read.encode()) is not None

    def value(self, limit: int) -> Any:
        """The value that begins here. Raises ValueError."""
        size = _CHUNK
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError:
                if self.ended or len(self.text) - self.at > limit:
                    raise
            else:
                if end < len(self.text) or self.ended:
                    self._read, self.at = self.text[self.at : end], end
                    return value
            self.more(size)
            size *= 2
