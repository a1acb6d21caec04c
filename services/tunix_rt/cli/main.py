"""Entry point: the command tree, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tunix_rt.cli.commands import (
    baselines,
    datasets,
    demo,
    evalsets,
    evaluations,
    events,
    evidence,
    gate,
    generate,
    logprobs,
    models,
    platform,
    runs,
    score,
    scores,
    sweeps,
)
from tunix_rt.cli.context import State
from tunix_rt.errors import InvalidInput, TunixError

FAILURE = 1


class _Root(TyperGroup):
    """Turns the errors that a user can cause into one message on standard error and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (TunixError, OSError) as error:
            print(message_of(error), file=sys.stderr)
            raise typer.Exit(getattr(ctx.obj, "error_code", FAILURE)) from error


def message_of(error: Exception) -> str:
    """One clear message; of bad input one line per offending field."""
    if isinstance(error, InvalidInput) and error.violations:
        lines = [f"  {violation.field or '(request)'}: {violation.description}" for violation in error.violations]
        return "error: the request is not valid\n" + "\n".join(lines)
    if isinstance(error, OSError) and error.filename is not None:
        return f"error: {error.filename}: {error.strerror}"
    return f"error: {error}"


app = typer.Typer(
    name="tunix-rt",
    cls=_Root,
    help="Train, serve, evaluate, rank, gate and tune reasoning models.",
    epilog="Start here: `tunix-rt up`, then `tunix-rt runs create --help`; or see it all at once with `tunix-rt demo`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: importing the Markdown renderer would take longer than everything else together.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    ctx: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="Home of the local platform.", envvar="TUNIX_RT_HOME", show_default=False)
    ] = None,
    address: Annotated[str | None, typer.Option(help="host:port of the registry.", show_default=False)] = None,
    inferencer: Annotated[str | None, typer.Option(help="host:port of the inferencer.", show_default=False)] = None,
    tuner: Annotated[
        str | None, typer.Option("--tuner-address", "--tuner", help="host:port of the tuner.", show_default=False)
    ] = None,
) -> None:
    """Options before the command choose the platform; without them TUNIX_RT_* or the local platform is used."""
    ctx.obj = State(home=home, address=address, inferencer_address=inferencer, tuner_address=tuner)


for name, (function, example) in platform.COMMANDS.items():
    app.command(name, epilog=example)(function)
app.command("demo", epilog=demo.EXAMPLE)(demo.demo)
app.command("generate", epilog=generate.EXAMPLE)(generate.generate)
app.command("logprobs", epilog=logprobs.EXAMPLE)(logprobs.logprobs)
app.command("leaderboard", epilog=scores.LEADERBOARD_EXAMPLE)(scores.leaderboard)
app.command("compare", epilog=scores.COMPARE_EXAMPLE)(scores.compare)
app.command("score", epilog=score.EXAMPLE)(score.score)
for group in (datasets, evalsets, runs, evaluations, baselines, gate, models, sweeps, events, evidence):
    app.add_typer(group.app)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
