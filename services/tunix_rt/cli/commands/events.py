"""`tunix-rt events`: the registry's facts as they happen."""

from __future__ import annotations

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
    with client(ctx, patient=True) as api:
        for event in islice(api.events.watch(subject=subject, after_sequence=after_sequence), limit):
            printing.record(event, as_json, _line)


@app.command("list", epilog="Example: tunix-rt events list --filter 'resource_id = \"run-01jd…\"'")
def list_events(ctx: typer.Context, filter: Filter = "", limit: Limit = 100, as_json: Json = False) -> None:
    """List facts that have happened."""
    with client(ctx) as api:
        for event in api.events.list(filter=filter, limit=limit):
            printing.record(event, as_json, _line)


def _line(event: Event) -> str:
    what = event.subject.removeprefix("tunix.evt.").removesuffix(f".{event.resource_id}")
    return f"[dim]{event.sequence:>6}  {formats.local_time(event.time)}[/dim]  [bold]{what}[/bold]  {event.resource_id}"
