"""`tunix-rt sweeps results`, `importance`, `data`, `plot`, `export`: the outcome of a sweep."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunix_rt import client as sdk
from tunix_rt.cli import formats, printing
from tunix_rt.cli.context import Json, client
from tunix_rt.cli.sweep_plot import draw, require_matplotlib
from tunix_rt.cli.sweep_table import sweep_table
from tunix_rt.cli.views import sweeps as views
from tunix_rt.cli.visible import visible
from tunix_rt.errors import FailedPrecondition, FieldViolation, InvalidInput, Transient

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.client.resources.sweep_records import Importance

SweepId = Annotated[str, typer.Argument(help="Id of a sweep.")]

CONFIG_FILE = "run.json"
BEST_PARAMS_FILE = "best_params.json"
PLOT_FORMATS = ("svg", "png", "pdf")


def results(ctx: typer.Context, sweep: SweepId, as_json: Json = False) -> None:
    """Rank a sweep's configurations, with intervals, and say whether there is a winner or a tie."""
    with client(ctx) as api:
        found = api.sweeps.results(sweep)
    printing.record(found, as_json, views.results)


def importance(ctx: typer.Context, sweep: SweepId, as_json: Json = False) -> None:
    """Show how much each parameter matters for the objective (PED-ANOVA, computed by the tuner)."""
    with client(ctx) as api:
        found = api.sweeps.importance(sweep)
    printing.record(found, as_json, views.importance)


def data(
    ctx: typer.Context,
    sweep: SweepId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="FILE.csv or FILE.json; default: CSV, printed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write every trial with its parameters and outcome, one row each."""
    suffix = _suffix(output, ("csv", "json")) if output else ""
    with client(ctx) as api:
        table = sweep_table(api.sweeps.get(sweep), list(api.sweeps.trials(sweep, page_size=1000)))
    if output is None:
        printing.print_json(table.document()) if as_json else sys.stdout.write(table.csv())
        return
    text = table.csv() if suffix == "csv" else printing.canonical(table.document()) + "\n"
    output.write_text(text, encoding="utf-8")
    _show_file(output, len(table.rows), as_json)


def plot(
    ctx: typer.Context,
    sweep: SweepId,
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.svg, FILE.png or FILE.pdf.")],
    as_json: Json = False,
) -> None:
    """Draw a sweep: objective by trial, parallel coordinates, importance of parameters. Needs tunix-rt[plots]."""
    suffix = _suffix(output, PLOT_FORMATS)
    require_matplotlib()
    with client(ctx) as api:
        table = sweep_table(api.sweeps.get(sweep), list(api.sweeps.trials(sweep, page_size=1000)))
        shares, why_not = _shares(api, sweep)
    output.write_bytes(draw(table, shares, why_not, format=suffix))
    _show_file(output, len(table.rows), as_json)


def export(
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
    """Write the best trial as a run config for `runs create --spec`, and best_params.json as in evidence.

    A run of that config trains the same model again, bit for bit. A tie is reported on standard error.
    """
    with client(ctx) as api:
        found = sdk.trial_config(api, sweep, trial)
    config, best_params = _places(output or Path(f"promoted-{sweep}"))
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(_pretty(found.config), encoding="utf-8")
    best_params.write_text(printing.canonical(found.best_params) + "\n", encoding="utf-8")
    if found.warning:
        print(visible(f"warning: {found.warning}"), file=sys.stderr)
    _show_config(found, config, best_params, as_json)


def _shares(api: TunixClient, sweep_id: str) -> tuple[Importance | None, str]:
    """The importance of parameters, or why there is none: a picture is drawn without it."""
    try:
        return api.sweeps.importance(sweep_id), ""
    except (FailedPrecondition, Transient) as error:
        print(visible(f"warning: {error}"), file=sys.stderr)
        return None, "too few trials" if isinstance(error, FailedPrecondition) else "the tuner cannot be reached"


def _suffix(path: Path, known: tuple[str, ...]) -> str:
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in known:
        raise InvalidInput([FieldViolation("--output", f"{path} must end in {' or '.join(f'.{k}' for k in known)}")])
    return suffix


def _show_file(path: Path, trials: int, as_json: bool) -> None:
    if as_json:
        printing.print_json({"file": str(path), "trials": trials, "size_bytes": path.stat().st_size})
    else:
        printing.show(f"{formats.escaped(str(path))}  ({trials} trials, {formats.size_text(path.stat().st_size)})")


def _places(given: Path) -> tuple[Path, Path]:
    """The config's file and that of best_params.json: in a directory, or the latter beside the former."""
    if given.suffix == ".json" and not given.is_dir():
        return given, given.parent / BEST_PARAMS_FILE
    return given / CONFIG_FILE, given / BEST_PARAMS_FILE


def _pretty(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _show_config(found: Any, config: Path, best_params: Path, as_json: bool) -> None:
    this, tags = found.best_params["this_trial"], found.config["tags"]
    if as_json:
        told = {"config": str(config), "best_params": str(best_params), "warning": found.warning}
        printing.print_json(told | {"trial": this, "tags": tags})
        return
    score = formats.score(this.get("objective"), this.get("ci_low"), this.get("ci_high"))
    printing.show(
        printing.fields(
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


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to the group `sweeps`."""
    for function in (results, importance, data, plot, export):
        example = f"Example: tunix-rt sweeps {_EXAMPLES[function.__name__]}"
        app.command(function.__name__, epilog=example)(function)
    # Its name before 1.0; `models promote` moves an alias.
    app.command("promote", hidden=True)(export)


_EXAMPLES = {
    "results": "results sweep-01jd…",
    "importance": "importance sweep-01jd…",
    "data": "data sweep-01jd… -o sweep.csv",
    "plot": "plot sweep-01jd… -o sweep.svg",
    "export": "export sweep-01jd… -o best",
}
