"""`tunix-rt dlq`: messages that could not be handled."""

from __future__ import annotations

from typing import Annotated

import typer

from tunix_rt.cli import printing
from tunix_rt.cli.context import Json, Limit, client
from tunix_rt.cli.groups import new_group
from tunix_rt.cli.views import dead_letters as views

app = new_group("dlq")

_AT_ONCE = 200

Sequences = Annotated[list[int], typer.Argument(min=1, help="Sequence of a dead letter; several are allowed.")]


@app.command("list", epilog="Example: tunix-rt dlq list")
def list_letters(ctx: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """List messages that could not be handled, oldest first, and why."""
    with client(ctx) as api:
        printing.rows(api.dead_letters.list(limit=limit), as_json, views.letters)


@app.command(epilog="Example: tunix-rt dlq show 17")
def show(
    ctx: typer.Context, sequence: Annotated[int, typer.Argument(min=1, help="As listed.")], as_json: Json = False
) -> None:
    """Show one message with its headers and body; control characters are made visible."""
    with client(ctx) as api:
        found = api.dead_letters.get(sequence)
    printing.record(found, as_json, views.letter)


@app.command(epilog="Example: tunix-rt dlq replay 17 18")
def replay(ctx: typer.Context, sequences: Sequences, as_json: Json = False) -> None:
    """Publish commands of jobs that wait for a worker once more; they leave the list."""
    with client(ctx) as api:
        for sequence in sequences:
            printing.row(api.dead_letters.replay(sequence), as_json, views.letters)


@app.command(epilog="Example: tunix-rt dlq drop --all")
def drop(
    ctx: typer.Context,
    sequences: Annotated[list[int] | None, typer.Argument(min=1, help="Sequence; several are allowed.")] = None,
    all_letters: Annotated[bool, typer.Option("--all", help="Every message that is listed now.")] = False,
    as_json: Json = False,
) -> None:
    """Delete messages for good."""
    if bool(sequences) == all_letters:
        raise typer.BadParameter("give sequences, or --all", param_hint="SEQUENCES")
    with client(ctx) as api:
        wanted = [letter.sequence for letter in api.dead_letters.list()] if all_letters else sequences or []
        dropped = sum(api.dead_letters.drop(wanted[i : i + _AT_ONCE]) for i in range(0, len(wanted), _AT_ONCE))
    printing.print_json({"dropped": dropped}) if as_json else printing.show(f"dropped {dropped}")
