"""Lines of JSON for other programs, written to a file or to standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import typer

from tunix_rt.cli.visible import visible_json

# As `tunix_rt.quality.result_logs` has them, which help does not wait for.
LOG_FORMATS = ("lm-eval", "inspect")


def one_of(value: str, known: Sequence[str], option: str) -> str:
    """``value``; raises a usage error unless it is among ``known``."""
    if value not in known:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(known)}", param_hint=option)
    return value


def write_lines(lines: Iterable[str], destination: Path | None) -> None:
    """Write ``lines`` to a file, which appears when all are written, or to standard output.

    On a terminal, characters that could steer it are written as JSON's escapes, which are the same values.
    """
    if destination is None:
        for line in lines:
            sys.stdout.buffer.write((visible_json(line) if sys.stdout.isatty() else line).encode())
        sys.stdout.buffer.flush()
        return
    unfinished = destination.with_name(destination.name + ".part")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
        unfinished.replace(destination)
    finally:
        unfinished.unlink(missing_ok=True)
