"""Options of the commands that read other people's files, and where the converted lines go."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tunix_rt.errors import Exhausted, FieldViolation, InvalidInput

if TYPE_CHECKING:
    from tunix_rt.importing.conversion import Options

    Write = Callable[[str], object]

R = TypeVar("R")

# A message of gRPC holds 16 MiB, with the call's other fields.
_MAX_EVALSET_BYTES = 16 * 2**20 - 2**16

SourceFormat = Annotated[
    str, typer.Option("--format", help="Read rows as this format; by default it is recognised.", show_default=False)
]
Maps = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="Column of a field, e.g. prompt=question; repeatable."),
]
Split = Annotated[str, typer.Option(help="Which split of a folder.", show_default=False)]
FirstRows = Annotated[int, typer.Option("--limit", "-n", min=0, help="Read at most this many rows; 0: all.")]
Skip = Annotated[bool, typer.Option("--skip", help="Leave out rows that cannot be imported, and count them.")]
JoinTurns = Annotated[
    bool, typer.Option("--join-turns", help="Write the earlier turns of a conversation into the prompt.")
]
Output = Annotated[
    Path | None,
    typer.Option("--out", help="Write JSONL there and register nothing; needs no platform.", show_default=False),
]
DryImport = Annotated[bool, typer.Option("--dry-run", help="Read and check everything, write and register nothing.")]


def import_options(
    *,
    source_format: str,
    maps: list[str] | None,
    split: str,
    limit: int,
    skip: bool,
    join_turns: bool,
    keep_annotations: bool = False,
) -> Options:
    """The options as `tunix_rt.importing` takes them; raises a usage error for a ``--map`` without ``=``."""
    from tunix_rt.importing.conversion import Options
    from tunix_rt.importing.examples import Reading

    return Options(source_format, columns_of(maps), split, limit, skip, Reading(join_turns, keep_annotations))


def columns_of(maps: list[str] | None) -> dict[str, str]:
    """``["prompt=question"]`` → ``{"prompt": "question"}``; raises a usage error naming what has no ``=``."""
    columns = {}
    for pair in maps or []:
        field, separator, column = pair.partition("=")
        if not separator or not field or not column:
            raise typer.BadParameter(f"{pair!r} is not FIELD=COLUMN", param_hint="--map")
        columns[field] = column
    return columns


def key_of(file: Path) -> str:
    """A key made of a file's name: "GSM8K test.jsonl" gives ``gsm8k-test``."""
    return re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._")[:64]


def refuse_foreign(file: Path) -> None:
    """Raise `UnreadableFile` where the rows of ``file`` are those of another tool, saying which command reads them."""
    from tunix_rt.importing.conversion import format_of
    from tunix_rt.importing.rows import UnreadableFile

    try:
        found = format_of(file)
    except UnreadableFile:
        return  # whoever reads it says what is wrong
    if found is not None and found.name != "evalset":
        what = found.instead or f"tunix-rt evalsets import {file} makes an evalset of it"
        raise UnreadableFile(f"{file} is no evalset; it looks like {found.title}: {what}")


def refuse_too_large(file: Path, size_bytes: int) -> None:
    """Raise `Exhausted` for an evalset that does not fit into one call, before it is sent."""
    if size_bytes > _MAX_EVALSET_BYTES:
        raise Exhausted(
            f"the evalset of {file} has {size_bytes:,} bytes, and a platform takes {_MAX_EVALSET_BYTES:,}: "
            "take fewer rows with --limit, or write it with --out FILE and score offline"
        )


@contextmanager
def converted(
    source: Path, out: Path | None, dry_run: bool, convert: Callable[[Write], R]
) -> Iterator[tuple[R, Path | None]]:
    """What ``convert`` returned, and the file of the lines that it wrote: ``out``, one that is removed when this ends,
    or None for a dry run. ``out`` appears only when everything is written."""
    if out is not None and out.exists() and source.exists() and out.samefile(source):
        raise InvalidInput([FieldViolation("out", f"{out} is the file that is read; choose another name")])
    if dry_run:
        yield convert(len), None
        return
    with tempfile.TemporaryDirectory(prefix="tunix-rt-import-") as directory:
        lines = Path(directory) / "lines.jsonl" if out is None else out.with_name(out.name + ".part")
        try:
            with lines.open("w", encoding="utf-8", newline="\n") as file:
                result = convert(file.write)
            if out is not None:
                lines.replace(out)
            yield result, out or lines
        finally:
            lines.unlink(missing_ok=True)
