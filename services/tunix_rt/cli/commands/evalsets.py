"""`tunix-rt evalsets`: validate, register, look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.cli.context import Filter, Json, Limit, OrderBy, Tags, client, parse_tags

app = typer.Typer(name="evalsets", help="Versioned lists of questions with checkable answers.")


@app.command(epilog="Example: tunix-rt evalsets create arith_v1")
def create(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(help="JSONL file, or the key of an evalset that ships.")],
    key: Annotated[str, typer.Option(help="Default: the file's stem.")] = "",
    description: Annotated[str, typer.Option()] = "",
    tag: Tags = None,
    as_json: Json = False,
) -> None:
    """Register an evalset version; the same content again is the same version."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import catalogue

    with client(ctx) as api:
        created = api.evalsets.create(file, key=key, description=description, tags=parse_tags(tag))
    output.print_json(created) if as_json else output.show(catalogue.evalset(created))


@app.command("list", epilog="Example: tunix-rt evalsets list --filter 'item_count >= 100'")
def list_evalsets(
    ctx: typer.Context, filter: Filter = "", order_by: OrderBy = "", limit: Limit = 50, as_json: Json = False
) -> None:
    """List evalset versions."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import catalogue

    with client(ctx) as api:
        found = api.evalsets.list(filter=filter, order_by=order_by, limit=limit)
        output.print_json_lines(found) if as_json else output.show(catalogue.evalsets(found))


@app.command(epilog="Example: tunix-rt evalsets show arith_v1")
def show(
    ctx: typer.Context,
    evalset: Annotated[str, typer.Argument(help="Id, or key: then its newest version.")],
    as_json: Json = False,
) -> None:
    """Show an evalset's composition and digest."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import catalogue

    with client(ctx) as api:
        found = api.evalsets.get(evalset)
    output.print_json(found) if as_json else output.show(catalogue.evalset(found))


@app.command(epilog="Example: tunix-rt evalsets items arith_v1 --filter 'section = edge_case'")
def items(
    ctx: typer.Context,
    evalset: Annotated[str, typer.Argument(help="Id or key.")],
    filter: Filter = "",
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """List an evalset's questions and expected answers."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import catalogue

    with client(ctx) as api:
        found = api.evalsets.items(api.evalsets.get(evalset).id, filter=filter, limit=limit)
        output.print_json_lines(found) if as_json else output.show(catalogue.evalset_items(found))


@app.command(epilog="Example: tunix-rt evalsets validate my_evalset.jsonl && echo fine")
def validate(
    file: Annotated[Path, typer.Argument(help="JSONL file, or the key of an evalset that ships.")],
    as_json: Json = False,
) -> None:
    """Check evalset JSONL without a platform: statistics when valid; else every violation and exit code 1."""
    from dataclasses import asdict

    from tunix_rt.cli import formats, output
    from tunix_rt.client.shipped import evalset_path
    from tunix_rt.errors import InvalidInput
    from tunix_rt.quality.items import parse_evalset

    path = evalset_path(file)
    try:
        evalset = parse_evalset(path.read_bytes())
    except InvalidInput as error:
        if not as_json:
            raise
        violations = [{"field": v.field, "description": v.description} for v in error.violations]
        output.print_json({"valid": False, "file": str(path), "violations": violations})
        raise typer.Exit(1) from error
    statistics = asdict(evalset.statistics)
    if as_json:
        output.print_json({"valid": True, "file": str(path), "digest": evalset.digest, "statistics": statistics})
        return
    rows = [
        (name.replace("_", " "), formats.counts(value) if isinstance(value, dict) else value)
        for name, value in statistics.items()
    ]
    output.show(output.fields([("evalset", f"{path} is valid"), ("digest", evalset.digest), *rows]))
