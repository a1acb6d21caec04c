"""Reads a file row by row into lines of ours, counts what becomes of every row, and says what could not be taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tunix_rt.importing.examples import Example, Reading
from tunix_rt.importing.formats import BY_NAME, READABLE, Format, recognise
from tunix_rt.importing.plain import FIELDS, mapped_example
from tunix_rt.importing.rows import Row, RowProblem, UnreadableFile
from tunix_rt.importing.sources import rows_of
from tunix_rt.traces.control_tokens import has_control_token
from tunix_rt.traces.schema import TRACE_FIELDS

SHOWN_PROBLEMS = 10
# The format is that of the first row that can be read; its columns are those of the first rows.
_FIRST_ROWS = 20
_SHOWN_CHARS = 200
_HELP = {
    "has several turns": "--join-turns writes the earlier turns into the prompt",
}


@dataclass(frozen=True)
class Options:
    """How a file is read. ``format`` "" is recognised; ``columns`` maps fields to columns; ``limit`` 0 takes all rows.

    ``skip``: rows that cannot be imported are left out and counted; otherwise one refuses the file.
    """

    format: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    split: str = ""
    limit: int = 0
    skip: bool = False
    reading: Reading = field(default_factory=Reading)


@dataclass
class Outcome:
    """What became of every row. ``left_out`` counts them by reason, ``repeated`` are equal to an earlier one,
    ``with_control_tokens`` were imported with control tokens in their texts."""

    format: str
    rows: int = 0
    imported: int = 0
    repeated: int = 0
    repaired: int = 0
    with_control_tokens: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)
    columns_not_taken: tuple[str, ...] = ()

    def leave_out(self, place: str, problem: RowProblem) -> None:
        """Count a row that cannot be imported; the first ones are kept in words."""
        self.left_out[problem.reason] += 1
        if len(self.problems) < SHOWN_PROBLEMS:
            text = str(problem)
            self.problems.append((place, text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"))

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "format": self.format,
            "rows": self.rows,
            "imported": self.imported,
            "repeated": self.repeated,
            "repaired": self.repaired,
            "with_control_tokens": self.with_control_tokens,
            "left_out": dict(self.left_out),
            "problems": [{"place": place, "problem": problem} for place, problem in self.problems],
            "columns_not_taken": list(self.columns_not_taken),
        }


class _Watched(dict[str, Any]):
    """A row that remembers which of its columns somebody asked for."""

    asked: set[str]

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)


Make = Callable[[Format | None, dict[str, Any], int], str | None]
"""The line of a row (by its format, values and number from 1); None for a repeated one. Raises `RowProblem`."""


def convert(path: Path, options: Options, make: Make, write: Callable[[str], object]) -> Outcome:
    """Write a line for every row of ``path``. Raises `UnreadableFile`: not readable, of no known format, or with rows
    that cannot be imported (unless ``options.skip``)."""
    rows = rows_of(path, options.split)
    first = list(islice(rows, _FIRST_ROWS))
    found = _format(path, first, options)
    outcome = Outcome(found.title if found else "columns by --map")
    asked: set[str] = set()
    for row in _limited(chain(first, rows), options.limit):
        outcome.rows += 1
        outcome.repaired += row.repaired
        try:
            line = make(found, _values(row, asked if outcome.rows <= _FIRST_ROWS else None), outcome.rows)
        except RowProblem as problem:
            outcome.leave_out(row.place, problem)
            continue
        outcome.repeated += line is None
        if line is not None:
            outcome.imported += 1
            outcome.with_control_tokens += has_control_token(line)
            write(line)
    columns = dict.fromkeys(name for row in first for name in row.values or ())
    outcome.columns_not_taken = tuple(name for name in columns if name not in asked)
    if outcome.left_out and (not options.skip or not outcome.imported):
        raise UnreadableFile(_refusal(path, outcome))
    return outcome


def _limited(rows: Iterator[Row], limit: int) -> Iterator[Row]:
    return islice(rows, limit) if limit else rows


def _values(row: Row, asked: set[str] | None) -> dict[str, Any]:
    if row.values is None:
        raise RowProblem(*row.problem.split(" (", 1)) if " (" in row.problem else RowProblem(row.problem)
    if asked is None:
        return row.values
    watched = _Watched(row.values)
    watched.asked = asked
    return watched


def read_example(found: Format | None, values: dict[str, Any], options: Options) -> Example:
    """The example of a row. Raises `RowProblem`."""
    if found is None or found.read is None:
        return mapped_example(values, options.columns, options.reading)
    return found.read(values, options.reading)


def format_of(path: Path, split: str = "") -> Format | None:
    """The format that the first readable row of ``path`` has; None if there is no such row or its columns say
    nothing. Raises `UnreadableFile`."""
    for row in islice(rows_of(path, split), _FIRST_ROWS):
        if row.values is not None:
            return _recognised(row.values)
    return None


def _recognised(values: dict[str, Any]) -> Format | None:
    """A row with no other columns than a trace's is one that lacks something."""
    return recognise(values) or (BY_NAME["trace"] if values.keys() <= TRACE_FIELDS else None)


def _format(path: Path, first: list[Row], options: Options) -> Format | None:
    """The format of the rows; None for columns that the caller maps."""
    if not first:
        raise UnreadableFile(f"{path} has no rows")
    if unknown := sorted(options.columns.keys() - set(FIELDS)):
        raise UnreadableFile(f"--map {unknown[0]}=…: no such field; expected one of {', '.join(FIELDS)}")
    if options.columns and options.format:
        raise UnreadableFile("--format and --map exclude each other: with --map the columns say everything")
    if options.columns:
        return None
    if options.format:
        if options.format not in READABLE:
            raise UnreadableFile(f"unknown format {options.format!r}; expected one of {', '.join(READABLE)}")
        return BY_NAME[options.format]
    values = next((row.values for row in first if row.values is not None), None)
    if values is None:
        raise UnreadableFile(_refusal(path, _all_bad(first)))
    found = _recognised(values)
    if found is None:
        raise UnreadableFile(
            f"{path} has the columns {', '.join(values)[:500]}; it is not known which hold question and answer. "
            "Say it: --map prompt=COLUMN --map expected_answer=COLUMN"
        )
    if found.instead:
        raise UnreadableFile(f"{path} looks like {found.title}: {found.instead}")
    return found


def _all_bad(rows: list[Row]) -> Outcome:
    outcome = Outcome("", rows=len(rows))
    for row in rows:
        outcome.leave_out(row.place, RowProblem(row.problem))
    return outcome


def _refusal(path: Path, outcome: Outcome) -> str:
    count = sum(outcome.left_out.values())
    read_as = f", read as {outcome.format}" if outcome.format else ""
    lines = [f"{path}: {count} of {outcome.rows} rows cannot be imported{read_as}"]
    lines += [f"  {place}: {problem}" for place, problem in outcome.problems]
    if count > len(outcome.problems):
        kinds = "; ".join(f"{number} × {reason[:100]}" for reason, number in outcome.left_out.most_common(5))
        lines.append(f"  and {count - len(outcome.problems)} more; in all: {kinds}")
    help_with = [text for start, text in _HELP.items() if any(reason.startswith(start) for reason in outcome.left_out)]
    if outcome.imported:
        help_with.append("--skip leaves them out")
    return "\n".join([*lines, *help_with])
