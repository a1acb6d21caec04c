"""`tunix-rt baselines`: lock an evaluation as what candidates are held against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tunix_rt.cli.context import Json, Limit, client

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient

app = typer.Typer(name="baselines", help="Locked evaluations that candidates are held against.")


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
    from tunix_rt.cli import output
    from tunix_rt.cli.views import catalogue

    with client(ctx) as api:
        if etag is None:
            etag = etag_in_force(api, name)
        locked = api.baselines.lock(name, api.evaluations.resolve(evaluation).id, note=note, etag=etag)
    output.print_json(locked) if as_json else output.show(catalogue.baselines([locked]))


def etag_in_force(api: TunixClient, name: str) -> str:
    """The etag of the revision that is to be replaced; "" for a new name."""
    from tunix_rt.errors import NotFound

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
    from tunix_rt.cli import output
    from tunix_rt.cli.views import catalogue

    with client(ctx) as api:
        found = api.baselines.list(name, limit=limit)
        output.print_json_lines(found) if as_json else output.show(catalogue.baselines(found))


@app.command(epilog="Example: tunix-rt baselines show main")
def show(
    ctx: typer.Context, name: Annotated[str, typer.Argument(help="Name of the baseline.")], as_json: Json = False
) -> None:
    """Show the revision in force."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import catalogue

    with client(ctx) as api:
        found = api.baselines.get(name)
    output.print_json(found) if as_json else output.show(catalogue.baselines([found]))
