"""`tunix-rt evalsets`: validate, check, register, import, inspect."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunix_rt.cli import formats, printing
from tunix_rt.cli.commands.retention import add_commands
from tunix_rt.cli.context import Archived, Filter, Json, Limit, OrderBy, Tags, client, parse_tags, with_archived
from tunix_rt.cli.groups import new_group
from tunix_rt.cli.import_options import (
    DryImport,
    FirstRows,
    JoinTurns,
    Maps,
    Output,
    Skip,
    SourceFormat,
    Split,
    converted,
    import_options,
    key_of,
    refuse_foreign,
    refuse_too_large,
)
from tunix_rt.cli.views import catalogue, evalset_quality, imports
from tunix_rt.client.shipped import evalset_path
from tunix_rt.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.client.resources.evalsets import EvalSet


def _by_id(api: TunixClient, id: str) -> EvalSet:
    """A key means another version tomorrow."""
    found = api.evalsets.get(id)
    if found.id != id:
        raise NotFound(f"{id!r} is a key: give the id of one version, such as {found.id}")
    return found


app = new_group("evalsets")
add_commands(app, "evalset", _by_id)


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
    refuse_foreign(evalset_path(file))
    with client(ctx) as api:
        created = api.evalsets.create(file, key=key, description=description, tags=parse_tags(tag))
    printing.record(created, as_json, catalogue.evalset)


@app.command(
    "import",
    epilog="Example: tunix-rt evalsets import gsm8k/test.jsonl --key gsm8k; or "
    "tunix-rt evalsets import quiz.csv --map prompt=Frage --map expected_answer=Antwort --out quiz.jsonl",
)
def import_file(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="JSONL, JSON, CSV, Parquet or Arrow file, or a folder of them.")],
    key: Annotated[str, typer.Option(help="Default: the file's stem.")] = "",
    format: SourceFormat = "",
    map: Maps = None,
    answer_type: Annotated[
        str, typer.Option(help="Of every item; default: the format's, or numeric for plain numbers and text otherwise.")
    ] = "",
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="Column to keep in each item's meta; repeatable.")
    ] = None,
    split: Split = "",
    limit: FirstRows = 0,
    skip: Skip = False,
    join_turns: JoinTurns = False,
    out: Output = None,
    dry_run: DryImport = False,
    description: Annotated[str, typer.Option()] = "",
    tag: Tags = None,
    as_json: Json = False,
) -> None:
    """Make an evalset of other people's questions, and register it.

    The format is recognised: GSM8K, MATH, MMLU, ARC, samples of inspect and lm-eval, OpenAI evals, chats, and columns
    with usual names. A row that cannot be imported refuses the file unless you --skip such rows.
    """
    from tunix_rt.importing.evalset_file import import_evalset

    options = import_options(source_format=format, maps=map, split=split, limit=limit, skip=skip, join_turns=join_turns)
    with converted(
        file,
        out,
        dry_run,
        lambda write: import_evalset(file, write, options, answer_type=answer_type, keep_columns=tuple(keep or ())),
    ) as (found, lines):
        document = {"import": found.outcome.to_dict() | {"digest": found.digest, "answer_types": found.answer_types}}
        if not as_json:
            extra = {"answer types": formats.counts(found.answer_types), "digest": found.digest}
            printing.show(imports.outcome(file, found.outcome, out if lines else None, extra))
        if lines is not None and out is None:
            refuse_too_large(file, found.size_bytes)
            with client(ctx) as api:
                created = api.evalsets.create(
                    lines, key=key or key_of(file), description=description, tags=parse_tags(tag)
                )
            document |= created.to_dict()
            if not as_json:
                printing.show(*catalogue.evalset(created))
    if as_json:
        printing.print_json(document)


@app.command("list", epilog="Example: tunix-rt evalsets list --filter 'item_count >= 100'")
def list_evalsets(
    ctx: typer.Context,
    filter: Filter = "",
    archived: Archived = False,
    order_by: OrderBy = "",
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List evalset versions."""
    with client(ctx) as api:
        found = api.evalsets.list(filter=with_archived(filter, archived), order_by=order_by, limit=limit)
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
            refuse_foreign(path)
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
            refuse_foreign(path)
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
