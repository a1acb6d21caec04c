"""Options that commands share: which platform to connect to, and how to print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunix_rt import client as sdk

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient

# Commands fail fast when a service cannot be reached; commands that watch wait much longer.
FIRST_CONTACT_SECONDS = 3.0
PATIENT_SECONDS = 120.0
SERVICES = ("registry", "inferencer", "tuner")

Json = Annotated[bool, typer.Option("--json", help="Print canonical JSON: one object, or one line per item.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number of results.")]
Filter = Annotated[str, typer.Option("--filter", "-f", help="AIP-160 filter, e.g. 'state = RUNNING'.")]
OrderBy = Annotated[str, typer.Option("--order-by", help="e.g. 'create_time desc'.")]
Archived = Annotated[bool, typer.Option("--archived", help="Show archived ones instead.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, create nothing.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow until it has ended; exit code 1 unless SUCCEEDED.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="NAME=VALUE; repeatable.", show_default=False)]


@dataclass
class State:
    """The global options. ``error_code`` is the exit code that errors of the running command get."""

    home: Path | None = None
    address: str | None = None
    inferencer_address: str | None = None
    tuner_address: str | None = None
    project: str | None = None
    error_code: int = 1

    def platform_home(self, given: Path | None = None) -> Path:
        """The home meant by a command's own ``--home``, the global one, or the default."""
        return (given or self.home or sdk.default_home()).expanduser().resolve()


@contextmanager
def client(ctx: typer.Context, *, patient: bool = False, token: str | None = None) -> Iterator[TunixClient]:
    """A client of the chosen platform, with ``token`` instead of the configured one. A ``patient`` one waits out long
    outages, for commands that watch."""
    state: State = ctx.obj
    with sdk.TunixClient(
        state.address,
        token,
        inferencer_address=state.inferencer_address,
        tuner_address=state.tuner_address,
        project=state.project,
        home=state.home,
        outage_seconds=PATIENT_SECONDS if patient else FIRST_CONTACT_SECONDS,
    ) as connected:
        yield connected


def with_archived(filter: str, archived: bool) -> str:
    """The filter of a list that shows archived resources, where that is asked for."""
    if not archived:
        return filter
    return f"({filter}) AND archived = true" if filter.strip() else "archived = true"


def parse_addresses(given: list[str]) -> dict[str, str]:
    """``["host:7700", "tuner=host:7704"]`` → addresses by service; raises a usage error for an unknown service."""
    addresses: dict[str, str] = {}
    for text in given:
        service, separator, address = text.rpartition("=")
        name = service if separator else "registry"
        if name not in SERVICES:
            raise typer.BadParameter(
                f"unknown service {name!r}; expected one of {', '.join(SERVICES)}", param_hint="--address"
            )
        addresses[name] = address
    return addresses


def parse_tags(pairs: list[str] | None) -> dict[str, str]:
    """``["team=a"]`` → ``{"team": "a"}``; raises a usage error naming what has no ``=``."""
    tags: dict[str, str] = {}
    for pair in pairs or []:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--tag")
        tags[name] = value
    return tags
