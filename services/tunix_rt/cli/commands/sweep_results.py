"""`tunix-rt sweeps results`, `importance`, `data`, `plot`, `promote`: what came of a sweep."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt.cli.context import Json, client
from tunix_rt.errors import FailedPrecondition, FieldViolation, InvalidInput, Transient

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.client.resources.sweep_records import Importance

SweepId = Annotated[str, typer.Argument(help="Id of a sweep.")]

CONFIG_FILE = "run.json"
BEST_PARAMS_FILE = "best_params.json"
PLOT_FORMATS = ("svg", "png", "pdf")


def results(ctx: typer.Context, sweep: SweepId, as_json: Json = False) -> None:
    """Rank a sweep's configurations, with intervals, and say whether the best is a winner or a tie."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import sweeps as views

    with client(ctx) as api:
        found = api.sweeps.results(sweep)
    output.print_json(found) if as_json else output.show(*views.results(found))


def importance(ctx: typer.Context, sweep: SweepId, as_json: Json = False) -> None:
    """Show how much each parameter matters for the objective (PED-ANOVA, computed by the tuner)."""
    from tunix_rt.cli import output
    from tunix_rt.cli.views import sweeps as views

    with client(ctx) as api:
        found = api.sweeps.importance(sweep)
    output.print_json(found) if as_json else output.show(*views.importance(found))


def data(
    ctx: typer.Context,
    sweep: SweepId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="FILE.csv or FILE.json; default: CSV, printed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write every trial with its parameters and outcome, one row each: what parallel coordinates are drawn from."""
    from tunix_rt.cli import output as printing
    from tunix_rt.cli.sweep_table import sweep_table

    suffix = _suffix(output, ("csv", "json")) if output else ""
    with client(ctx) as api:
        table = sweep_table(api.sweeps.get(sweep), list(api.sweeps.trials(sweep, page_size=1000)))
    if output is None:
        printing.print_json(table.document()) if as_json else sys.stdout.write(table.csv())
        return
    text = table.csv() if suffix == "csv" else printing.canonical(table.document()) + "\n"
    output.write_text(text, encoding="utf-8")
    _tell_file(output, len(table.rows), as_json)


def plot(
    ctx: typer.Context,
    sweep: SweepId,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.svg, FILE.png or FILE.pdf.")],
    as_json: Json = False,
) -> None:
    """Draw a sweep: objective by trial, parallel coordinates, importance of parameters. Needs tunix-rt[plots]."""
    from tunix_rt.cli.sweep_plot import draw, require_matplotlib
    from tunix_rt.cli.sweep_table import sweep_table

    suffix = _suffix(output, PLOT_FORMATS)
    require_matplotlib()
    with client(ctx) as api:
        table = sweep_table(api.sweeps.get(sweep), list(api.sweeps.trials(sweep, page_size=1000)))
        shares, why_not = _shares(api, sweep)
    output.write_bytes(draw(table, shares, why_not, format=suffix))
    _tell_file(output, len(table.rows), as_json)


def promote(
    ctx: typer.Context,
    sweep: SweepId,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Directory, or FILE.json for the config. Default: promoted-SWEEP.",
            show_default=False,
        ),
    ] = None,
    trial: Annotated[
        int | None, typer.Option(help="Number of a trial that succeeded, instead of the best.", min=0)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the best trial as a config that `runs create --spec` takes, and best_params.json as in evidence.

    A run of that config trains the same model again, bit for bit. A tie is told on standard error.
    """
    from tunix_rt.client.workflows.trial_configs import trial_config
    from tunix_rt.evidence.documents import json_file

    with client(ctx) as api:
        found = trial_config(api, sweep, trial)
    config, best_params = _places(output or Path(f"promoted-{sweep}"))
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(_pretty(found.config), encoding="utf-8")
    best_params.write_bytes(json_file(found.best_params))
    if found.warning:
        print(f"warning: {found.warning}", file=sys.stderr)
    _tell_promotion(found, config, best_params, as_json)


# Command → function and example.
COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "results": (results, "Example: tunix-rt sweeps results sweep-01jd…"),
    "importance": (importance, "Example: tunix-rt sweeps importance sweep-01jd…"),
    "data": (data, "Example: tunix-rt sweeps data sweep-01jd… -o sweep.csv"),
    "plot": (plot, "Example: tunix-rt sweeps plot sweep-01jd… -o sweep.svg"),
    "promote": (promote, "Example: tunix-rt sweeps promote sweep-01jd… -o best"),
}


def _shares(api: TunixClient, sweep_id: str) -> tuple[Importance | None, str]:
    """The importance of parameters, or why there is none: a picture is drawn without it, too."""
    try:
        return api.sweeps.importance(sweep_id), ""
    except (FailedPrecondition, Transient) as error:
        print(f"warning: {error}", file=sys.stderr)
        return None, "too few trials" if isinstance(error, FailedPrecondition) else "the tuner is away"


def _suffix(path: Path, known: tuple[str, ...]) -> str:
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in known:
        raise InvalidInput([FieldViolation("--output", f"{path} must end in {' or '.join(f'.{k}' for k in known)}")])
    return suffix


def _tell_file(path: Path, trials: int, as_json: bool) -> None:
    from tunix_rt.cli import formats, output

    if as_json:
        output.print_json({"file": str(path), "trials": trials, "size_bytes": path.stat().st_size})
    else:
        output.show(f"{formats.escaped(str(path))}  ({trials} trials, {formats.size_text(path.stat().st_size)})")


def _places(given: Path) -> tuple[Path, Path]:
    """The config's file and that of best_params.json: in a directory, or the latter beside the former."""
    if given.suffix == ".json" and not given.is_dir():
        return given, given.parent / BEST_PARAMS_FILE
    return given / CONFIG_FILE, given / BEST_PARAMS_FILE


def _pretty(document: dict[str, Any]) -> str:
    import json

    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _tell_promotion(found: Any, config: Path, best_params: Path, as_json: bool) -> None:
    from tunix_rt.cli import formats, output

    this, tags = found.best_params["this_trial"], found.config["tags"]
    if as_json:
        told = {"config": str(config), "best_params": str(best_params), "warning": found.warning}
        output.print_json(told | {"trial": this, "tags": tags})
        return
    score = formats.score(this.get("objective"), this.get("ci_low"), this.get("ci_high"))
    output.show(
        output.fields(
            [
                ("config", f"{formats.escaped(str(config))}  [dim]tunix-rt runs create --spec {config}[/dim]"),
                ("best params", formats.escaped(str(best_params))),
                ("trial", f"{this['number']}, {score}: {tags['promoted.choice']}"),
                ("result", formats.escaped(found.best_params["statement"])),
                ("run", this["run_id"]),
                ("spec digest", tags["promoted.spec_digest"]),
                ("model digest", tags["promoted.model_digest"]),
            ]
        )
    )
