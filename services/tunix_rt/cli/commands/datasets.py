"""`tunix-rt datasets`: build, import, inspect, export."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt import client as sdk
from tunix_rt.cli import printing
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
)
from tunix_rt.cli.log_files import write_lines
from tunix_rt.cli.progress import Phases
from tunix_rt.cli.views import catalogue, dataset_quality, imports
from tunix_rt.client.shipped import evalset_path
from tunix_rt.errors import NotFound

if TYPE_CHECKING:
    from tunix_rt.client.resources.datasets import Dataset
    from tunix_rt.importing.conversion import Outcome
    from tunix_rt.quality.items import EvalItem

app = new_group("datasets")
add_commands(app, "dataset", lambda api, id: api.datasets.get(id))

Decontaminate = Annotated[
    list[str] | None, typer.Option("--decontaminate", help="Evalset (id or key) to keep out; repeatable.")
]
Budget = Annotated[int | None, typer.Option("--max-trace-tokens", help="Longer traces are dropped and counted.")]


@app.command(epilog="Example: tunix-rt datasets build arith-v1 --size 2000 --decontaminate arith_v1")
def build(
    ctx: typer.Context,
    recipe: Annotated[str, typer.Argument(help="See `tunix-rt datasets recipes`.")],
    key: Annotated[str, typer.Option(help="Default: the recipe's name.")] = "",
    size: Annotated[int | None, typer.Option(help="Number of traces.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    max_trace_tokens: Budget = None,
    decontaminate: Decontaminate = None,
    tag: Tags = None,
    as_json: Json = False,
) -> None:
    """Build a dataset from a recipe; the same recipe, size and seed give the same digest."""
    with client(ctx) as api:
        evalsets = [api.evalsets.get(name).id for name in decontaminate or []]
        dataset = api.datasets.build(
            recipe,
            key=key,
            size=size,
            seed=seed,
            max_trace_tokens=max_trace_tokens,
            decontaminate=evalsets,
            tags=parse_tags(tag),
        )
    printing.record(dataset, as_json, catalogue.dataset)


@app.command(
    "import",
    epilog="Example: tunix-rt datasets import traces.jsonl --key my-traces; or "
    "tunix-rt datasets import gsm8k/train.jsonl --key gsm8k --decontaminate gsm8k-test",
)
def import_file(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="JSONL, JSON, CSV, Parquet or Arrow file, or a folder of them.")],
    key: Annotated[str, typer.Option(help="Default: the file's stem.")] = "",
    max_trace_tokens: Budget = None,
    decontaminate: Decontaminate = None,
    format: SourceFormat = "",
    map: Maps = None,
    split: Split = "",
    limit: FirstRows = 0,
    skip: Skip = False,
    join_turns: JoinTurns = False,
    answer_as_step: Annotated[
        bool,
        typer.Option("--answer-as-step", help="Give rows without reasoning the answer as their only step; else none."),
    ] = False,
    keep_annotations: Annotated[
        bool, typer.Option("--keep-annotations", help="Keep GSM8K's calculator annotations, <<3*4=12>>.")
    ] = False,
    out: Output = None,
    dry_run: DryImport = False,
    tag: Tags = None,
    as_json: Json = False,
) -> None:
    """Import traces, or other people's reasoning as traces.

    The format is recognised: traces, GSM8K, MATH, chats (messages, ShareGPT), Alpaca, TRL's prompt and completion, and
    columns with usual names. A row that cannot be imported refuses the file unless you --skip such rows.
    """
    from tunix_rt.importing.conversion import format_of
    from tunix_rt.importing.trace_file import import_traces

    options = import_options(
        source_format=format,
        maps=map,
        split=split,
        limit=limit,
        skip=skip,
        join_turns=join_turns,
        keep_annotations=keep_annotations,
    )
    plain = not (format or map or split or limit or skip or out or dry_run)
    if plain and (found := format_of(file)) is not None and found.name == "trace":
        # Traces go to the registry as they are.
        created = _registered(ctx, file, key or key_of(file), max_trace_tokens, decontaminate, tag)
        printing.record(created, as_json, catalogue.dataset)
        return

    def convert(write: Callable[[str], object]) -> Outcome:
        with Phases() as say:
            rows = itertools.count(1)

            def counted(line: str) -> None:
                write(line)
                if (row := next(rows)) % 1000 == 0:
                    say("reading rows", row)

            return import_traces(file, counted, options, answer_as_step=answer_as_step)

    with converted(file, out, dry_run, convert) as (outcome, lines):
        document: dict[str, Any] = {"import": outcome.to_dict()}
        if not as_json:
            printing.show(imports.outcome(file, outcome, out if lines else None, {}))
        if lines is not None and out is None:
            created = _registered(ctx, lines, key or key_of(file), max_trace_tokens, decontaminate, tag)
            document |= created.to_dict()
            if not as_json:
                printing.show(*catalogue.dataset(created))
    if as_json:
        printing.print_json(document)


def _registered(
    ctx: typer.Context,
    traces: Path,
    key: str,
    max_trace_tokens: int | None,
    decontaminate: list[str] | None,
    tag: list[str] | None,
) -> Dataset:
    with client(ctx) as api, Phases() as say:
        evalsets = [api.evalsets.get(name).id for name in decontaminate or []]

        def progress(sent: int, size: int) -> None:
            if sent < size:
                say("sending traces", sent, size)
            else:
                say("looking for repeats and overlap with evalsets")

        return api.datasets.import_file(
            traces,
            key=key,
            max_trace_tokens=max_trace_tokens,
            decontaminate=evalsets,
            tags=parse_tags(tag),
            progress=progress,
        )


@app.command("list", epilog="Example: tunix-rt datasets list --filter 'trace_count > 100'")
def list_datasets(
    ctx: typer.Context,
    filter: Filter = "",
    archived: Archived = False,
    order_by: OrderBy = "",
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List datasets, newest first."""
    with client(ctx) as api:
        found = api.datasets.list(filter=with_archived(filter, archived), order_by=order_by, limit=limit)
        printing.rows(found, as_json, catalogue.datasets)


@app.command(epilog="Example: tunix-rt datasets show arith-v1")
def show(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(help="Id, or key: then its newest version.")],
    as_json: Json = False,
) -> None:
    """Show a dataset's manifest: counts, token lengths, what was dropped, overlap with evalsets."""
    with client(ctx) as api:
        found = api.datasets.resolve(dataset)
    printing.record(found, as_json, catalogue.dataset)


@app.command(
    epilog="Example: tunix-rt datasets check traces.jsonl --evalset arith_v1 --max-trace-tokens 512 && "
    "tunix-rt datasets import traces.jsonl"
)
def check(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="FILE|ID", help="Trace JSONL, or the id or key of a dataset.")],
    evalset: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE|KEY", help="Look for overlap with it: a file, or an evalset's key; repeatable."),
    ] = None,
    max_trace_tokens: Annotated[
        int | None, typer.Option(min=1, help="Token budget: prompt and completion together, in regex-v1 tokens.")
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="Maximum number of examples of each kind.")] = 10,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as problems.")] = False,
    as_json: Json = False,
) -> None:
    """Report a dataset's quality before a model learns from it. Of a file no platform is needed.

    Exit code 0 without problems, 1 with one.

    Problems are lines that are no traces (every one is named), traces that repeat another in everything, traces over
    the budget, and contamination: an evalset item whose prompt is in the dataset (equal after normalisation), nearly
    so (Jaccard similarity of 5-word runs of at least 0.8), or that shares a run of 13 words with it. A score on such
    an evalset says less than it seems; `datasets build` and `import` keep equal prompts out with --decontaminate.

    Warnings are prompts with several traces, above all when their answers differ, near duplicates, equations in the
    steps that do not hold, steps that lead to another answer, steps without words, and loops.
    """
    from tunix_rt.traces.quality_report import quality_report

    name, data = _trace_jsonl(ctx, dataset)
    evalsets = {each: _evalset_items(ctx, each) for each in evalset or []}
    report = quality_report(data, evalsets=evalsets, max_trace_tokens=max_trace_tokens)
    printing.print_json({"dataset": name, **report.to_dict()}) if as_json else printing.show(
        *dataset_quality.report(name, report, show)
    )
    if any(strict or finding.level == "problem" for finding in report.findings()):
        raise typer.Exit(1)


@app.command(epilog="Example: tunix-rt datasets export arith-v1 --format chat --output arith.jsonl")
def export(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(help="Id or key.")],
    format: Annotated[str, typer.Option(help="trace | tunix_sft | chat")] = "trace",
    destination: Annotated[Path | None, typer.Option("--output", "-o", help="Default: standard output.")] = None,
    as_json: Json = False,
) -> None:
    """Write a dataset as JSONL. The output is JSON either way; `--json` is accepted for uniformity."""
    with client(ctx) as api:
        chunks = api.datasets.export(api.datasets.resolve(dataset).id, format=format)
        write_lines((chunk.decode() for chunk in chunks), destination)


@app.command(epilog="Example: tunix-rt datasets recipes")
def recipes(ctx: typer.Context, as_json: Json = False) -> None:
    """List the recipes that ship with the registry."""
    with client(ctx) as api:
        found = api.datasets.recipes()
    printing.rows(found, as_json, catalogue.recipes)


def _trace_jsonl(ctx: typer.Context, name: str) -> tuple[str, bytes]:
    """What to call it, and the trace JSONL: of a file, or of the registered dataset with that id or key."""
    path = Path(name)
    if path.exists() or path.suffix == ".jsonl" or "/" in name:
        return name, path.read_bytes()
    with client(ctx) as api:
        dataset = api.datasets.resolve(name)
        return f"{dataset.key} ({dataset.id})", b"".join(api.datasets.export(dataset.id, format="trace"))


def _evalset_items(ctx: typer.Context, name: str) -> Sequence[EvalItem]:
    """The items of a file, of an evalset that ships, or of the registered one with that id or key, in this order."""
    from tunix_rt.quality.items import parse_evalset

    try:
        path = evalset_path(name)
    except NotFound:
        if name.endswith(".jsonl") or "/" in name:
            raise
        with client(ctx) as api:
            return sdk.evalset_items(api, api.evalsets.get(name)).items
    return parse_evalset(path.read_bytes()).items
