"""`tunix-rt events`: the registry's facts as they happen."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from tunix_rt.cli import formats, printing
from tunix_rt.cli.context import Filter, Json, Limit, client
from tunix_rt.cli.groups import new_group

if TYPE_CHECKING:
    from tunix_rt.client.resources.events import Event

app = new_group("events")


@app.command(epilog="Example: tunix-rt events tail --subject 'tunix.evt.run.>' --json | jq .type")
def tail(
    ctx: typer.Context,
    subject: Annotated[str, typer.Option(help="NATS pattern; default: everything.")] = "",
    after_sequence: Annotated[
        int | None, typer.Option("--after-sequence", "--after", help="Start after this sequence; 0: with the first.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Stop after this many events.")] = None,
    as_json: Json = False,
) -> None:
    """Follow the event stream until interrupted; outages of the registry lose no event."""
    with _ended_by_interrupt(), client(ctx, patient=True) as api:
        for event in islice(api.events.watch(subject=subject, after_sequence=after_sequence), limit):
            printing.record(event, as_json, _line)


@app.command("list", epilog="Example: tunix-rt events list --filter 'resource_id = \"run-01jd…\"'")
def list_events(ctx: typer.Context, filter: Filter = "", limit: Limit = 100, as_json: Json = False) -> None:
    """List facts that have happened."""
    with client(ctx) as api:
        for event in api.events.list(filter=filter, limit=limit):
            printing.record(event, as_json, _line)


@contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """Inside the block Ctrl-C ends the process at once. There is nothing to tidy up, and an exception that is raised in
    the middle of gRPC's own work may be lost."""
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@app.command(epilog="Example: tunix-rt events republish --from 2026-01-31T10:00:00Z --dry-run")
def republish(
    ctx: typer.Context,
    begin: Annotated[str, typer.Option("--from", help="The first: its sequence, or an ISO 8601 time.")],
    end: Annotated[str, typer.Option("--to", help="The last, likewise; default: the newest.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them, publish nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Publish stored facts to NATS once more, in order, with their ids and the header tunix-republished."""
    first, last = _place(begin, "--from"), _place(end, "--to") if end else None
    with client(ctx) as api:
        found = api.events.republish(first, last, validate_only=dry_run)
    will = "would be" if dry_run else "are"
    printing.record(
        found,
        as_json,
        lambda each: f"{each.events} facts {will} published again, {each.first_sequence} to {each.last_sequence}",
    )


def _place(text: str, option: str) -> int | datetime:
    """A sequence, or a time: without a zone, of this machine's. Raises a usage error for anything else."""
    if text.isdecimal():
        return int(text)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is neither a sequence nor a time such as 2026-01-31T10:00:00Z", param_hint=option
        ) from None


def _line(event: Event) -> str:
    what = event.subject.removeprefix("tunix.evt.").removesuffix(f".{event.resource_id}")
    return f"[dim]{event.sequence:>6}  {formats.local_time(event.time)}[/dim]  [bold]{what}[/bold]  {event.resource_id}"
