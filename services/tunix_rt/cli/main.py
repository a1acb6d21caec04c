"""Entry point: the command tree, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tunix_rt.cli.context import State, parse_addresses
from tunix_rt.cli.groups import SETTINGS, Entry, LazyGroup
from tunix_rt.cli.visible import visible
from tunix_rt.errors import InvalidInput, TunixError

FAILURE = 1

TREE = {
    "up": Entry("platform", "Start nats-server and the five services here and keep them alive.", False),
    "down": Entry("platform", "Stop the platform of a home, in order.", False),
    "status": Entry("platform", "Show every part's health and the jobs by state.", False),
    "demo": Entry("demo", "Train, evaluate, rank, gate, compare, tune and ask a small model.", False),
    "datasets": Entry("datasets", "Immutable, content-addressed collections of reasoning traces."),
    "evalsets": Entry("evalsets", "Versioned lists of questions with checkable answers."),
    "runs": Entry("runs", "Training runs: specs, attempts, metrics, logs."),
    "evaluations": Entry("evaluations", "Evaluations of models on evalsets, with every item's answer."),
    "leaderboard": Entry("scores", "Rank what was evaluated on an evalset, one line per run.", False),
    "compare": Entry("scores", "Compare evaluations item by item, with intervals and p-values.", False),
    "score": Entry("scores", "Score predictions offline, exactly as the platform does.", False),
    "sweeps": Entry("sweeps", "Hyperparameter sweeps; every trial is an ordinary run."),
    "baselines": Entry("baselines", "Locked evaluations: what candidates are compared with."),
    "gate": Entry("gate", "Decisions whether a candidate may replace a baseline."),
    "models": Entry("models", "Model versions, lineage, aliases and promotions; models in the inferencer's memory."),
    "generate": Entry("generation", "Generate an answer with the platform's inferencer.", False),
    "logprobs": Entry(
        "generation", "Log-probability (natural) of each token of a text given those before it, and their sum.", False
    ),
    "evidence": Entry("evidence", "Everything that a score rests on in one zip: build it, verify it without a server."),
    "gc": Entry("gc", "Free what nothing in the artifact store needs.", False),
    "backup": Entry("backup", "Snapshots of a platform's database and artifacts: made, checked, restored."),
    "access": Entry("access", "Who may do what: principals, tokens, and the audit log."),
    "certs": Entry("certs", "Certificates for TLS between the services of a platform and its clients."),
    "dlq": Entry("dlq", "Dead letters: messages that could not be handled."),
    "events": Entry("events", "The log of facts: what happened, in order."),
}


class _Root(LazyGroup):
    """Turns the errors that a user can cause into one message on standard error and exit code 1."""

    tree = TREE

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (TunixError, OSError) as error:
            print(visible(message_of(error)), file=sys.stderr)
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
    context_settings=SETTINGS,
)


@app.callback()
def root(
    ctx: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="Home of the local platform.", envvar="TUNIX_RT_HOME", show_default=False)
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[SERVICE=]HOST:PORT",
            help="Where a service is: the registry, or inferencer=HOST:PORT, tuner=HOST:PORT; repeatable. "
            "Default: TUNIX_RT_REGISTRY_ADDRESS and so on, then the local platform.",
            show_default=False,
        ),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(
            help="Project to work in, for who may see all of them. Default: TUNIX_RT_PROJECT.", show_default=False
        ),
    ] = None,
    inferencer: Annotated[str | None, typer.Option(hidden=True)] = None,
    tuner: Annotated[str | None, typer.Option("--tuner-address", "--tuner", hidden=True)] = None,
) -> None:
    """Options before the command choose the platform; without them TUNIX_RT_* or the local platform is used."""
    found = parse_addresses(address or [])
    ctx.obj = State(
        home=home,
        address=found.get("registry"),
        inferencer_address=found.get("inferencer") or inferencer,
        tuner_address=found.get("tuner") or tuner,
        project=project,
    )


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
