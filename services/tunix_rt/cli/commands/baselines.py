"""`tunix-rt baselines`: lock an evaluation as what candidates are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tunix_rt.cli import printing
from tunix_rt.cli.context import Json, Limit, client
from tunix_rt.cli.groups import new_group
from tunix_rt.cli.views import catalogue
from tunix_rt.errors import NotFound

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient

app = new_group("baselines")


@app.command(epilog="Example: tunix-rt baselines lock main run-01jd… --note 'release 3'")
def lock(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the baseline.")],
    evaluation: Annotated[str, typer.Argument(help="Evaluation, or a run that has just one.")],
    note: Annotated[str, typer.Option(help="Why.")] = "",
    etag: Annotated[str | None, typer.Option(help="Only if the revision in force has this etag.")] = None,
    as_json: Json = False,
) -> None:
    """Lock an evaluation as the named baseline; the former one stays in the history."""
    with client(ctx) as api:
        if etag is None:
            etag = etag_in_force(api, name)
        locked = api.baselines.lock(name, api.evaluations.resolve(evaluation).id, note=note, etag=etag)
    printing.row(locked, as_json, catalogue.baselines)


def etag_in_force(api: TunixClient, name: str) -> str:
    """The etag of the revision that is to be replaced; "" for a new name."""
    try:
        return api.baselines.get(name).etag
    except NotFound:
        return ""


@app.command("list", epilog="Example: tunix-rt baselines list")
def list_baselines(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="The history of this name.")] = "",
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List the baselines in force, or one name's history."""
    with client(ctx) as api:
        found = api.baselines.list(name, limit=limit)
        printing.rows(found, as_json, catalogue.baselines)


@app.command(epilog="Example: tunix-rt baselines show main")
def show(
    ctx: typer.Context, name: Annotated[str, typer.Argument(help="Name of the baseline.")], as_json: Json = False
) -> None:
    """Show the revision in force."""
    with client(ctx) as api:
        found = api.baselines.get(name)
    printing.row(found, as_json, catalogue.baselines)
