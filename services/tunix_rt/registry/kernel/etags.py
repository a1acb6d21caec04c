"""Etags (AIP-154): the text form of a row's revision."""

from __future__ import annotations

from typing import Protocol

from tunix_rt.errors import Aborted


class Revised(Protocol):
    """A row that counts its changes."""

    id: str
    revision: int


def etag(revision: int) -> str:
    """The etag of a revision: opaque text."""
    return f"r{revision}"


def check_etag(given: str, row: Revised) -> None:
    """Raise `Aborted` unless ``given`` is the row's current etag. An empty one asks for no check."""
    if given and given != etag(row.revision):
        raise Aborted(f"{row.id} has changed: etag {given} is stale, current is {etag(row.revision)}; read it again")
