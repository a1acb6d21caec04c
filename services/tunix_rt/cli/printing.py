"""Prints results: canonical JSON for programs, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from tunix_rt.cli.visible import safe_console, visible_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tunix_rt.client.records import Record

    View: TypeAlias = RenderableType | list[RenderableType]

R = TypeVar("R", bound="Record | Mapping[str, Any]")

# Width when the output is not a terminal: wide enough that nothing is cut for programs that parse it.
PIPE_WIDTH = 240


def canonical(document: object) -> str:
    """Canonical JSON text: sorted keys, no spaces."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def print_json(value: Record | Mapping[str, Any]) -> None:
    """One JSON object on one line, flushed at once for readers that follow."""
    document = value if isinstance(value, Mapping) else value.to_dict()
    sys.stdout.write(visible_json(canonical(document)) + "\n")
    sys.stdout.flush()


def print_json_lines(records: Iterable[Record | Mapping[str, Any]]) -> None:
    """One JSON object per line."""
    for record in records:
        print_json(record)


def record(found: R, as_json: bool, view: Callable[[R], View]) -> None:
    """One result: as JSON, or as ``view`` shows it."""
    print_json(found) if as_json else show(*_parts(view(found)))


def row(found: R, as_json: bool, view: Callable[[Sequence[R]], View]) -> None:
    """One result: as JSON, or as the only row of the table ``view``."""
    print_json(found) if as_json else show(*_parts(view([found])))


def rows(found: Iterable[R], as_json: bool, view: Callable[[Iterable[R]], View]) -> None:
    """Several results: a line of JSON each, or the table ``view``."""
    print_json_lines(found) if as_json else show(*_parts(view(found)))


def _parts(view: View) -> Sequence[RenderableType]:
    return view if isinstance(view, list) else [view]


@cache
def console() -> Console:
    """The terminal."""
    return safe_console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def show(*renderables: RenderableType) -> None:
    """Print for people."""
    for renderable in renderables:
        console().print(renderable)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", numbers: Sequence[str] = ()
) -> RenderableType:
    """A table; cells are text with rich markup or renderables. ``numbers`` names the columns aligned to the right."""
    from rich import box
    from rich.console import ConsoleRenderable
    from rich.table import Table

    grid = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        identifier = column == "id" or column.endswith(" id")
        grid.add_column(column, justify="right" if column in numbers else "left", no_wrap=identifier, overflow="fold")
    for row in rows:
        grid.add_row(*(cell if isinstance(cell, ConsoleRenderable) else str(cell) for cell in row))
    if not grid.row_count:
        return "[dim]nothing yet[/dim]"
    return grid


def fields(pairs: Iterable[tuple[str, object]]) -> RenderableType:
    """Names and values below each other; empty values are left out."""
    from rich.console import ConsoleRenderable
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value not in ("", None):
            grid.add_row(name, value if isinstance(value, ConsoleRenderable) else str(value))
    return grid
