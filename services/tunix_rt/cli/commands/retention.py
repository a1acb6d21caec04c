"""`archive`, `unarchive` and `delete` of every noun that has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt.cli import printing
from tunix_rt.cli.context import Json, client
from tunix_rt.cli.formats import escaped

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.client.resources.retention import ResourceReference

Find = Callable[["TunixClient", str], Any]
Id = Annotated[str, typer.Argument(help="Id.")]


def add_commands(app: typer.Typer, noun: str, find: Find) -> None:
    """Give ``app`` the three commands; ``find`` reads the resource that an id (or a name) means."""
    one, example = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}", f"Example: tunix-rt {noun}s"

    @app.command(help=f"Hide {one} that has ended from lists and leaderboards.", epilog=f"{example} archive ID")
    def archive(ctx: typer.Context, id: Id, as_json: Json = False) -> None:
        with client(ctx) as api:
            found = find(api, id)
            printing.row(api.retention.archive(found.id, etag=found.etag), as_json, references)

    @app.command(help=f"Show {one} in lists again.", epilog=f"{example} unarchive ID")
    def unarchive(ctx: typer.Context, id: Id, as_json: Json = False) -> None:
        with client(ctx) as api:
            found = find(api, id)
            printing.row(api.retention.unarchive(found.id, etag=found.etag), as_json, references)

    @app.command(
        help=f"Delete {one} for good; what rests on it is named, and keeps it.",
        epilog=f"{example} delete ID --cascade --dry-run",
    )
    def delete(
        ctx: typer.Context,
        id: Id,
        cascade: Annotated[bool, typer.Option("--cascade", help="Also everything that rests on it.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; delete nothing.")] = False,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a cascade.")] = False,
        as_json: Json = False,
    ) -> None:
        with client(ctx) as api:
            found = find(api, id)
            gone = api.retention.delete(found.id, etag=found.etag, cascade=cascade, validate_only=True)
            if not dry_run:
                if len(gone) > 1 and not yes:
                    printing.show(references(gone))
                    typer.confirm(f"Delete these {len(gone)}?", abort=True, err=True)
                gone = api.retention.delete(found.id, etag=found.etag, cascade=cascade)
        printing.rows(gone, as_json, references)


def references(found: Iterable[ResourceReference]) -> Any:
    """Resources, and why each is named."""
    rows = ((each.kind, each.id, escaped(each.name), escaped(each.reason)) for each in found)
    return printing.table(("kind", "id", "name", "because"), rows)
