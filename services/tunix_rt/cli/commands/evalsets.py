"""`tunix-rt evalsets`: validate, check, register, inspect."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.cli import formats, printing
from tunix_rt.cli.context import Filter, Json, Limit, OrderBy, Tags, client, parse_tags
from tunix_rt.cli.groups import new_group
from tunix_rt.cli.views import catalogue, evalset_quality
from tunix_rt.client.shipped import evalset_path
from tunix_rt.errors import InvalidInput

app = new_group("evalsets")


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
    with client(ctx) as api:
        created = api.evalsets.create(file, key=key, description=description, tags=parse_tags(tag))
    printing.record(created, as_json, catalogue.evalset)


@app.command("list", epilog="Example: tunix-rt evalsets list --filter 'item_count >= 100'")
def list_evalsets(
    ctx: typer.Context, filter: Filter = "", order_by: OrderBy = "", limit: Limit = 50, as_json: Json = False
) -> None:
    """List evalset versions."""
    with client(ctx) as api:
        found = api.evalsets.list(filter=filter, order_by=order_by, limit=limit)
        printing.rows(found, as_json, catalogue.evalsets)


@app.command(epilog="Example: tunix-rt evalsets show arith_v1")
def show(
    ctx: typer.Context,
    evalset: Annotated[str, typer.Argument(help="Id, or key: then its newest version.")],
    as_json: Json = False,
) -> None:
    """Show an evalset's composition, its digest, and the smallest differences it can show."""
    with client(ctx) as api:
        found = api.evalsets.get(evalset)
    printing.record(found, as_json, catalogue.evalset)


@app.command(epilog="Example: tunix-rt evalsets items arith_v1 --filter 'section = edge_case'")
def items(
    ctx: typer.Context,
    evalset: Annotated[str, typer.Argument(help="Id or key.")],
    filter: Filter = "",
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """List an evalset's questions and expected answers."""
    with client(ctx) as api:
        found = api.evalsets.items(api.evalsets.get(evalset).id, filter=filter, limit=limit)
        printing.rows(found, as_json, catalogue.evalset_items)


@app.command(epilog="Example: tunix-rt evalsets validate my_evalset.jsonl && echo fine")
def validate(
    file: Annotated[Path, typer.Argument(help="JSONL file, or the key of an evalset that ships.")],
    as_json: Json = False,
) -> None:
    """Check evalset JSONL without a platform: statistics when valid; else every violation and exit code 1."""
    from tunix_rt.quality.items import parse_evalset

    path = evalset_path(file)
    try:
        evalset = parse_evalset(path.read_bytes())
    except InvalidInput as error:
        if not as_json:
            raise
        violations = [{"field": v.field, "description": v.description} for v in error.violations]
        printing.print_json({"valid": False, "file": str(path), "violations": violations})
        raise typer.Exit(1) from error
    statistics = asdict(evalset.statistics)
    if as_json:
        printing.print_json({"valid": True, "file": str(path), "digest": evalset.digest, "statistics": statistics})
        return
    rows = [
        (name.replace("_", " "), formats.counts(value) if isinstance(value, dict) else value)
        for name, value in statistics.items()
    ]
    printing.show(printing.fields([("evalset", f"{path} is valid"), ("digest", evalset.digest), *rows]))


@app.command(epilog="Example: tunix-rt evalsets check my_evalset.jsonl && tunix-rt evalsets create my_evalset.jsonl")
def check(
    file: Annotated[Path, typer.Argument(help="JSONL file, or the key of an evalset that ships.")],
    show: Annotated[int, typer.Option(min=0, help="Maximum number of similar items.")] = 10,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as problems.")] = False,
    as_json: Json = False,
) -> None:
    """Report what an evalset holds and which differences it can show, without a platform.

    Exit code 0 without problems, 1 with one.

    Problems are items that cannot be used (every violation is named) and prompts that are in it twice. Items that
    nearly equal an earlier one (Jaccard similarity of 5-word runs of at least 0.8) are a warning unless both have the
    same cluster_id: they are not independent, and intervals that take them for it are too narrow.

    The smallest detectable difference is what a paired comparison of two models (two-sided, 5 %) shows with 80 %
    power. It depends on the share of items on which the two differ, which is small for two checkpoints of one run and
    large for two unrelated models. Each cluster counts as one item, as if its items always came out alike.
    """
    from tunix_rt.quality.items import parse_evalset
    from tunix_rt.traces.evalset_report import evalset_report

    path = evalset_path(file)
    try:
        report = evalset_report(parse_evalset(path.read_bytes()))
    except InvalidInput as error:
        if not as_json:
            raise
        violations = [{"field": v.field, "description": v.description} for v in error.violations]
        printing.print_json({"valid": False, "file": str(path), "violations": violations})
        raise typer.Exit(1) from error
    if as_json:
        printing.print_json({"valid": True, "file": str(path), **report.to_dict()})
    else:
        printing.show(*evalset_quality.report(str(path), report, show))
    if any(strict or finding.level == "problem" for finding in report.findings()):
        raise typer.Exit(1)
