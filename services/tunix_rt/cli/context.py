"""What every command is given: which platform to talk to, and how to print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient

# A command tells quickly that nobody is there; something that was seen running is waited for much longer.
FIRST_CONTACT_SECONDS = 3.0

Json = Annotated[bool, typer.Option("--json", help="Print canonical JSON: one object, or one line per item.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")]
Filter = Annotated[str, typer.Option("--filter", "-f", help="AIP-160 filter, e.g. 'state = RUNNING'.")]
OrderBy = Annotated[str, typer.Option("--order-by", help="e.g. 'create_time desc'.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="NAME=VALUE; may be repeated.", show_default=False)]


@dataclass
class State:
    """The global options. ``error_code`` is the exit code that errors of the running command get."""

    home: Path | None = None
    address: str | None = None
    inferencer_address: str | None = None
    tuner_address: str | None = None
    error_code: int = 1

    def platform_home(self, given: Path | None = None) -> Path:
        """The home meant by a command's own ``--home``, the global one, or the default."""
        from tunix_rt.local.platform_file import default_home

        return (given or self.home or default_home()).expanduser().resolve()


@contextmanager
def client(ctx: typer.Context, *, patient: bool = False) -> Iterator[TunixClient]:
    """A client of the chosen platform. ``patient`` bears with long outages, for commands that watch."""
    from tunix_rt.client import TunixClient

    state: State = ctx.obj
    with TunixClient(
        state.address,
        inferencer_address=state.inferencer_address,
        tuner_address=state.tuner_address,
        home=state.home,
        outage_seconds=120.0 if patient else FIRST_CONTACT_SECONDS,
    ) as connected:
        yield connected


def parse_tags(pairs: list[str] | None) -> dict[str, str]:
    """``["team=a"]`` → ``{"team": "a"}``; raises a usage error naming what has no ``=``."""
    tags: dict[str, str] = {}
    for pair in pairs or []:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--tag")
        tags[name] = value
    return tags
