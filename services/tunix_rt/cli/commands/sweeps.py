"""`tunix-rt sweeps`: search for good hyperparameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt.cli.context import Filter, Json, Limit, OrderBy, Tags, client, parse_tags

if TYPE_CHECKING:
    from tunix_rt.client import SweepProgress, TunixClient

app = typer.Typer(name="sweeps", help="Hyperparameter sweeps; every trial is an ordinary run.")

SweepId = Annotated[str, typer.Argument(help="Id of a sweep.")]


@app.command(
    epilog="Example: tunix-rt sweeps create --model preset://tiny --dataset arith-v1 --evaluate-on arith_v1 "
    "--set max_steps=100 --param 'learning_rate=loguniform(1e-4,1e-2)' --param per_device_batch_size=8,16 --samples 3"
)
def create(
    ctx: typer.Context,
    spec: Annotated[
        Path | None, typer.Option(help="SweepSpec as JSON, TOML or YAML; flags are laid over it.", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="Base model of every trial.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset id or key.")] = None,
    evaluate_on: Annotated[list[str] | None, typer.Option(help="Evalset; repeatable. The first is scored.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Hyperparameter of every trial, NAME=VALUE; repeatable.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=a,b,c | NAME=uniform(l,h) | loguniform(l,h) | quniform(l,h,q) | randint(l,h) | normal(m,s) | "
            "grid(a,b); repeatable."
        ),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Number of trials; of a grid, its repetitions.")] = None,
    concurrent: Annotated[int | None, typer.Option(help="Trials at the same time.")] = None,
    algorithm: Annotated[str | None, typer.Option(help="random | grid | tpe")] = None,
    metric: Annotated[str | None, typer.Option(help="primary_score, or a run metric.")] = None,
    mode: Annotated[str | None, typer.Option(help="max | min")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    name: Annotated[str, typer.Option(help="Display name.")] = "",
    tag: Tags = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, create nothing.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow until it has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Queue a sweep."""
    from tunix_rt.cli import output, specs
    from tunix_rt.cli.views import jobs
    from tunix_rt.client.groups.runs import run_spec

    document = specs.read_spec(spec) if spec else {}
    objective = {key: value for key, value in (("metric", metric), ("mode", mode)) if value is not None}
    with client(ctx) as api:
        base = run_spec(
            document.pop("base", None),
            base_model=model,
            dataset_id=api.datasets.resolve(dataset).id if dataset else None,
            hyperparameters=specs.parse_settings(setting, "--set") or None,
            evaluate_on=evaluate_on or None,
        )
        sweep = api.sweeps.create(
            document,
            base=base,
            parameters=specs.parse_parameters(param) or None,
            algorithm=algorithm,
            num_samples=samples,
            max_concurrent_trials=concurrent,
            objective=objective or None,
            seed=seed,
            display_name=name,
            tags=parse_tags(tag),
            validate_only=dry_run,
        )
    if watch and not dry_run:
        follow(ctx, sweep.id, as_json)
    else:
        output.print_json(sweep) if as_json else output.show(*jobs.sweep(sweep, []))


@app.command("list", epilog="Example: tunix-rt sweeps list --filter 'state = RUNNING'")
def list_sweeps(
    ctx: typer.Context, filter: Filter = "", order_by: OrderBy = "", limit: Limit = 50, as_json: Json = False
) -> None:
    """List sweeps, newest first."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        found = api.sweeps.list(filter=filter, order_by=order_by, limit=limit)
        output.print_json_lines(found) if as_json else output.show(jobs.sweeps(found))


@app.command(epilog="Example: tunix-rt sweeps show sweep-01jd…")
def show(ctx: typer.Context, sweep: SweepId, as_json: Json = False) -> None:
    """Show a sweep and its trials; ★ marks the best."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        found = api.sweeps.get(sweep)
        if as_json:
            output.print_json(found)
        else:
            output.show(*jobs.sweep(found, list(api.sweeps.trials(sweep))))


@app.command(epilog="Example: tunix-rt sweeps trials sweep-01jd… --order-by 'objective desc' --limit 3")
def trials(
    ctx: typer.Context, sweep: SweepId, order_by: OrderBy = "", limit: Limit = 1000, as_json: Json = False
) -> None:
    """List a sweep's trials."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        found = api.sweeps.trials(sweep, order_by=order_by, limit=limit)
        output.print_json_lines(found) if as_json else output.show(
            jobs.trials(found, api.sweeps.get(sweep).best_trial_id)
        )


@app.command(epilog="Example: tunix-rt sweeps watch sweep-01jd…")
def watch(ctx: typer.Context, sweep: SweepId, as_json: Json = False) -> None:
    """Follow a sweep until it has ended; exit code 1 unless it SUCCEEDED."""
    follow(ctx, sweep, as_json)


@app.command(epilog="Example: tunix-rt sweeps cancel sweep-01jd…")
def cancel(
    ctx: typer.Context,
    sweep: SweepId,
    message: Annotated[str, typer.Option("--message", "-m", help="Kept in the history.")] = "",
    as_json: Json = False,
) -> None:
    """Cancel a sweep and every trial that has not ended."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import jobs

    with client(ctx) as api:
        found = api.sweeps.cancel(sweep, message=message)
    output.print_json(found) if as_json else output.show(jobs.sweeps([found]))


def follow(ctx: typer.Context, sweep_id: str, as_json: bool) -> None:
    """Show a sweep and its trials until it has ended; exit code 1 unless it succeeded."""
    from tunix_rt.cli import output
    from tunix_rt.cli.progress import JobDisplay
    from tunix_rt.cli.views import jobs
    from tunix_rt.v1 import common_pb2

    with client(ctx, patient=True) as api, JobDisplay(as_json) as display:
        ended = wait_for_sweep(api, sweep_id, display)
    if not as_json:
        output.show(*jobs.sweep(ended.sweep, ended.trials))
    if ended.sweep.state != common_pb2.JOB_STATE_SUCCEEDED:
        raise typer.Exit(1)


def wait_for_sweep(api: TunixClient, sweep_id: str, display: Any) -> SweepProgress:
    """Show a sweep until it has ended."""
    from tunix_rt.cli import formats

    def update(now: SweepProgress) -> None:
        known = [trial.objective for trial in now.trials if trial.HasField("objective")]
        best = f"objectives {formats.joined(f'{value:.3f}' for value in known)}" if known else ""
        display.update(now.sweep, now.sweep.display_name or now.sweep.id, best)

    return api.sweeps.wait(sweep_id, on_change=update)
