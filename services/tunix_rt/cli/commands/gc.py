"""`tunix-rt gc`: free what nothing needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt.cli import printing
from tunix_rt.cli.context import Json, client
from tunix_rt.cli.formats import parse_duration, size_text
from tunix_rt.cli.groups import new_group

if TYPE_CHECKING:
    from tunix_rt.client.resources.retention import Garbage

app = new_group("gc")


@app.command(epilog="Example: tunix-rt gc --dry-run --older-than 24h")
def gc(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; remove nothing.")] = False,
    older_than: Annotated[
        str, typer.Option(help="Keep what was written to within this time (90m, 24h, 7d). Default: the registry's.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Free what nothing in the artifact store needs.

    That is content without a dataset or model, checkpoints of deleted runs, and half-written files.
    """
    seconds = parse_duration(older_than) if older_than else 0
    found: list[Garbage] = []
    with client(ctx) as api:
        for batch in api.retention.collect_garbage(older_than_seconds=seconds, validate_only=dry_run):
            found += batch
            if as_json:
                printing.print_json_lines(batch)
    if not as_json:
        printing.show(_table(found), _total(found, dry_run))


def _table(found: Sequence[Garbage]) -> Any:
    rows = ((each.path, each.reason, size_text(each.size_bytes)) for each in found)
    return printing.table(("what", "because", "size"), rows, numbers=("size",))


def _total(found: Sequence[Garbage], dry_run: bool) -> str:
    counted = [each for each in found if dry_run or each.removed]
    return (
        f"{size_text(sum(each.size_bytes for each in counted))} in {len(counted)} {'to free' if dry_run else 'freed'}"
    )
