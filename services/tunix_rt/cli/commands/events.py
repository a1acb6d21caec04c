"""`tunix-rt events`: the registry's facts as they happen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tunix_rt.cli.context import Filter, Json, Limit, client

if TYPE_CHECKING:
    from tunix_rt.client.resources.events import Event

app = typer.Typer(name="events", help="The log of facts: what happened, in order.")


@app.command(epilog="Example: tunix-rt events tail --subject 'tunix.evt.run.>' --json | jq .type")
def tail(
    ctx: typer.Context,
    subject: Annotated[str, typer.Option(help="NATS pattern; default: everything.")] = "",
    after: Annotated[int | None, typer.Option(help="Begin after this sequence (0: with the first).")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Stop after so many.")] = None,
    as_json: Json = False,
) -> None:
    """Follow the event stream until interrupted; outages of the registry lose nothing."""
    from itertools import islice

    from tunix_rt.cli import output

    with client(ctx, patient=True) as api:
        for event in islice(api.events.watch(subject=subject, after_sequence=after), limit):
            output.print_json(event) if as_json else output.show(_line(event))


@app.command("list", epilog="Example: tunix-rt events list --filter 'resource_id = \"run-01jd…\"'")
def list_events(ctx: typer.Context, filter: Filter = "", limit: Limit = 100, as_json: Json = False) -> None:
    """List facts that have happened."""
    from tunix_rt.cli import output

    with client(ctx) as api:
        for event in api.events.list(filter=filter, limit=limit):
            output.print_json(event) if as_json else output.show(_line(event))


def _line(event: Event) -> str:
    from tunix_rt.cli import formats

    what = event.subject.removeprefix("tunix.evt.").removesuffix(f".{event.resource_id}")
    return f"[dim]{event.sequence:>6}  {formats.local_time(event.time)}[/dim]  [bold]{what}[/bold]  {event.resource_id}"
