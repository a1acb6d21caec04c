"""`tunix-rt baselines`: lock an evaluation as what candidates are held against."""

from __future__ import annotations

from typing import Annotated

import typer

from tunix_rt.cli.context import Json, Limit, client

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
    from tunix_rt.cli import lookups, output
    from tunix_rt.cli.views import catalogue

    with client(ctx) as api:
        locked = api.baselines.lock(name, lookups.evaluation_id(api, evaluation), note=note, etag=etag)
    output.print_json(locked) if as_json else output.show(catalogue.baselines([locked]))


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
