"""`tunix-rt sweeps`: search for good hyperparameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt import client as sdk
from tunix_rt.cli import formats, printing, specs
from tunix_rt.cli.commands import sweep_results
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
from tunix_rt.cli.progress import JobDisplay
from tunix_rt.cli.rule_options import given, help_of
from tunix_rt.cli.sweep_table import sweep_table
from tunix_rt.cli.views import sweeps as views
from tunix_rt.contract.deadlines import QUEUE_DEADLINE

if TYPE_CHECKING:
    from tunix_rt.client import SweepProgress, Trial, TunixClient
    from tunix_rt.client.resources.sweeps import Sweep

app = new_group("sweeps")
add_commands(app, "sweep", lambda api, id: api.sweeps.get(id))

SweepId = Annotated[str, typer.Argument(help="Id of a sweep.")]


@app.command(
    epilog="Example: tunix-rt sweeps create --base-model preset://tiny --dataset-id arith-v1 --evaluate-on arith_v1 "
    "--set max_steps=90 --set eval_steps=10 --param 'learning_rate=loguniform(1e-4,1e-2)' "
    "--param per_device_batch_size=4,8,16 --algorithm tpe --scheduler asha --num-samples 12 --watch"
)
def create(
    ctx: typer.Context,
    spec: Annotated[
        Path | None, typer.Option(help="SweepSpec as JSON, TOML or YAML; the options override it.", show_default=False)
    ] = None,
    base_model: Annotated[
        str | None, typer.Option("--base-model", "--model", help="Base model of every trial.")
    ] = None,
    dataset_id: Annotated[str | None, typer.Option("--dataset-id", "--dataset", help="Dataset id or key.")] = None,
    evaluate_on: Annotated[list[str] | None, typer.Option(help="Evalset; repeatable. The first is scored.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Hyperparameter of every trial, NAME=VALUE; repeatable.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "--param",
            help="NAME=a,b,c | NAME=uniform(l,h) | loguniform(l,h) | quniform(l,h,q) | randint(l,h) | normal(m,s) | "
            "grid(a,b), each optionally followed by 'when OTHER in a,b'; repeatable. Without any: learning_rate, "
            "per_device_batch_size, weight_decay, warmup_steps.",
        ),
    ] = None,
    num_samples: Annotated[
        int | None, typer.Option("--num-samples", "--samples", help="Number of configurations; of a grid: repetitions.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Trials of each configuration, each with its own seed.")] = None,
    max_concurrent_trials: Annotated[
        int | None, typer.Option("--max-concurrent-trials", "--concurrent", help="Trials at the same time.")
    ] = None,
    algorithm: Annotated[str | None, typer.Option(help="random | grid | tpe")] = None,
    startup_trials: Annotated[int | None, typer.Option(help="tpe: random trials before the model is used.")] = None,
    multivariate: Annotated[
        bool | None, typer.Option(help="tpe: model parameters jointly, not one by one.", show_default=False)
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="fifo | asha | median-stopping | pbt")] = None,
    scheduling_metric: Annotated[
        str | None, typer.Option(help="Run metric that the scheduler compares. Default: eval_loss.")
    ] = None,
    scheduling_mode: Annotated[str | None, typer.Option(help="max | min; of a loss: min.")] = None,
    grace_steps: Annotated[int | None, typer.Option(help="No trial is stopped before this training step.")] = None,
    reduction_factor: Annotated[float | None, typer.Option(help="asha: promote the top 1/N at each rung.")] = None,
    brackets: Annotated[int | None, typer.Option(help="asha: more than one is Hyperband.")] = None,
    min_trials: Annotated[
        int | None, typer.Option(help="median-stopping: trials that must have reached a step before it is judged.")
    ] = None,
    interval_steps: Annotated[int | None, typer.Option(help="pbt: steps between perturbations.")] = None,
    quantile_fraction: Annotated[
        float | None, typer.Option(help="pbt: share of the population that is replaced.")
    ] = None,
    resample_probability: Annotated[
        float | None, typer.Option(help="pbt: probability of resampling a value instead of perturbing it.")
    ] = None,
    objective_metric: Annotated[
        str | None, typer.Option("--objective-metric", "--metric", help="primary_score, or a run metric.")
    ] = None,
    objective_mode: Annotated[str | None, typer.Option("--objective-mode", "--mode", help="max | min")] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(help="Hardware pool; with several pools, trials are assigned round-robin. Repeatable."),
    ] = None,
    trial_resource: Annotated[
        list[str] | None, typer.Option(help="Ray resource that each trial occupies, NAME=AMOUNT; repeatable.")
    ] = None,
    queue_deadline_seconds: Annotated[
        int | None, typer.Option("--queue-deadline-seconds", "--queue-deadline", help=help_of(QUEUE_DEADLINE))
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the search; for trials use --set seed=N.")] = None,
    display_name: Annotated[str, typer.Option("--display-name", "--name", help="Name for people.")] = "",
    tag: Tags = None,
    dry_run: DryRun = False,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Queue a sweep. Unset fields take their defaults; `--dry-run` shows the resolved spec."""
    document, labels = specs.split_labels(specs.read_spec(spec) if spec else {})
    resources = specs.parse_settings(trial_resource, "--trial-resource")
    with client(ctx) as api:
        base = sdk.run_spec(
            document.pop("base", None),
            base_model=base_model,
            dataset_id=api.datasets.resolve(dataset_id).id if dataset_id else None,
            hyperparameters=specs.parse_settings(setting, "--set") or None,
            evaluate_on=evaluate_on or None,
        )
        sweep = api.sweeps.create(
            document,
            base=base,
            parameters=specs.parse_parameters(param) or None,
            algorithm=algorithm,
            tpe=given(startup_trials=startup_trials, multivariate=multivariate),
            scheduler=scheduler,
            scheduling=given(
                metric=scheduling_metric,
                mode=scheduling_mode,
                grace_steps=grace_steps,
                reduction_factor=reduction_factor,
                brackets=brackets,
                min_trials=min_trials,
                interval_steps=interval_steps,
                quantile_fraction=quantile_fraction,
                resample_probability=resample_probability,
            ),
            num_samples=num_samples,
            repeats=repeats,
            max_concurrent_trials=max_concurrent_trials,
            objective=given(metric=objective_metric, mode=objective_mode),
            pools=pool or None,
            trial_resources=resources or None,
            queue_deadline_seconds=queue_deadline_seconds,
            seed=seed,
            display_name=display_name or labels.display_name,
            tags={**labels.tags, **parse_tags(tag)},
            validate_only=dry_run,
        )
    if watch and not dry_run:
        follow(ctx, sweep.id, as_json)
    else:
        printing.record(sweep, as_json, lambda found: views.sweep(found, []))


@app.command("list", epilog="Example: tunix-rt sweeps list --filter 'state = RUNNING'")
def list_sweeps(
    ctx: typer.Context,
    filter: Filter = "",
    archived: Archived = False,
    order_by: OrderBy = "",
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List sweeps, newest first."""
    with client(ctx) as api:
        found = api.sweeps.list(filter=with_archived(filter, archived), order_by=order_by, limit=limit)
        printing.rows(found, as_json, views.sweeps)


@app.command(epilog="Example: tunix-rt sweeps show sweep-01jd…")
def show(ctx: typer.Context, sweep: SweepId, as_json: Json = False) -> None:
    """Show a sweep and its first trials; ★ marks the best."""
    with client(ctx) as api:
        found = api.sweeps.get(sweep)
        if as_json:
            printing.print_json(found)
        else:
            printing.show(*views.sweep(found, list(api.sweeps.trials(sweep))))


@app.command(epilog="Example: tunix-rt sweeps trials sweep-01jd… --order-by 'objective desc' --limit 3")
def trials(
    ctx: typer.Context, sweep: SweepId, order_by: OrderBy = "", limit: Limit = 1000, as_json: Json = False
) -> None:
    """List a sweep's trials."""
    with client(ctx) as api:
        found = api.sweeps.trials(sweep, order_by=order_by, limit=limit)
        printing.print_json_lines(found) if as_json else printing.show(
            views.trials(found, api.sweeps.get(sweep).best_trial_id)
        )


@app.command(epilog="Example: tunix-rt sweeps watch sweep-01jd…")
def watch(ctx: typer.Context, sweep: SweepId, as_json: Json = False) -> None:
    """Follow a sweep until it has ended; exit code 1 unless it SUCCEEDED."""
    follow(ctx, sweep, as_json)


@app.command(epilog="Example: tunix-rt sweeps cancel sweep-01jd…")
def cancel(
    ctx: typer.Context,
    sweep: SweepId,
    message: Annotated[str, typer.Option("--message", "-m", help="Why; kept in the history.")] = "",
    as_json: Json = False,
) -> None:
    """Cancel a sweep and every trial that has not ended."""
    with client(ctx) as api:
        found = api.sweeps.cancel(sweep, message=message)
    printing.row(found, as_json, views.sweeps)


@app.command(epilog="Example: tunix-rt sweeps retry sweep-01jd… --message 'the tuner is back'")
def retry(
    ctx: typer.Context,
    sweep: SweepId,
    message: Annotated[str, typer.Option("--message", "-m", help="Why; kept in the history.")] = "",
    as_json: Json = False,
) -> None:
    """Queue a sweep that has FAILED or was CANCELLED once more; trials that have ended stay as they are."""
    _change(ctx, lambda api: api.sweeps.retry(sweep, message=message), as_json)


@app.command(epilog="Example: tunix-rt sweeps pause sweep-01jd…")
def pause(ctx: typer.Context, sweep: SweepId, as_json: Json = False) -> None:
    """Start no more trials; those that were started continue to their end."""
    _change(ctx, lambda api: api.sweeps.pause(sweep), as_json)


@app.command(epilog="Example: tunix-rt sweeps resume sweep-01jd…")
def resume(ctx: typer.Context, sweep: SweepId, as_json: Json = False) -> None:
    """Continue a paused sweep."""
    _change(ctx, lambda api: api.sweeps.resume(sweep), as_json)


@app.command(epilog="Example: tunix-rt sweeps extend sweep-01jd… --num-samples 24")
def extend(
    ctx: typer.Context,
    sweep: SweepId,
    num_samples: Annotated[
        int, typer.Option("--num-samples", "--samples", help="Total number of configurations (of a grid: repetitions).")
    ],
    as_json: Json = False,
) -> None:
    """Raise the number of configurations; a sweep that has SUCCEEDED or FAILED continues with its trials."""
    _change(ctx, lambda api: api.sweeps.extend(sweep, num_samples), as_json)


def _change(ctx: typer.Context, call: Callable[[TunixClient], Sweep], as_json: bool) -> None:
    with client(ctx) as api:
        found = call(api)
    printing.row(found, as_json, views.sweeps)


def follow(ctx: typer.Context, sweep_id: str, as_json: bool) -> None:
    """Show a sweep and its trials until it has ended; exit code 1 unless it succeeded."""
    with client(ctx, patient=True) as api, JobDisplay(as_json) as display:
        ended, trials = wait_for_sweep(api, sweep_id, display)
    if not as_json:
        printing.show(*views.sweep(ended, trials))
    if not ended.succeeded:
        raise typer.Exit(1)


def wait_for_sweep(api: TunixClient, sweep_id: str, display: Any) -> tuple[Sweep, Sequence[Trial]]:
    """Show a sweep until it has ended: how many trials of what kind, and the best so far."""
    trials: Sequence[Trial] = ()

    def update(now: SweepProgress) -> None:
        nonlocal trials
        trials = now.trials
        table = sweep_table(now.sweep, now.trials)
        best = views.best_line(now.sweep, table)
        beside = f"{views.trial_counts(now.sweep, table)}{f'  best {best}' if best else ''}"
        display.update(now.sweep, formats.escaped(now.sweep.display_name or now.sweep.id), beside)

    return api.sweeps.wait(sweep_id, on_change=update), trials


sweep_results.add_to(app)
