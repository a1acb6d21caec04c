"""What rows of every kind need: the time, an id, an etag of their revision, and a lock on their name."""

from __future__ import annotations

import re
import secrets
import threading
import time
from datetime import UTC, datetime
from typing import Final, Protocol

from sqlalchemy import text
from sqlalchemy.orm import Session

from tunix_rt.errors import Aborted, FieldViolation, InvalidInput

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PATTERN: Final = re.compile(r"[a-z]{2,8}-[0-7][0-9a-hjkmnp-tv-z]{25}")
_RANDOM_BITS: Final = 80

_id_lock = threading.Lock()
_last_id = 0


class Revised(Protocol):
    """A row that counts its changes."""

    @property
    def id(self) -> str: ...
    @property
    def revision(self) -> int: ...


def utc_now() -> datetime:
    """The current instant, aware, in UTC."""
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """``<prefix>-<26 Crockford base32 characters>`` (ULID, monotonic variant): ids sort by the time they were made.

    Strictly growing within one process.
    """
    global _last_id
    fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    with _id_lock:
        _last_id = max(fresh, _last_id + 1)
        value = _last_id
    return f"{prefix}-" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def is_id(text: str, prefix: str | None = None) -> bool:
    """Whether ``text`` has the form of an id (of that prefix)."""
    return bool(_PATTERN.fullmatch(text)) and (prefix is None or text.startswith(f"{prefix}-"))


def etag(revision: int) -> str:
    """The etag of a revision (AIP-154): opaque text."""
    return f"r{revision}"


def check_etag(given: str, row: Revised) -> None:
    """Raise `Aborted` unless ``given`` is the row's current etag. An empty one asks for no check."""
    if given and given != etag(row.revision):
        raise Aborted(f"{row.id} has changed: etag {given} is stale, current is {etag(row.revision)}; read it again")


def check_replaces(given: str, current: int | None, what: str, read: str) -> None:
    """Raise unless ``given`` is the etag of revision ``current`` of ``what``; None is one that does not exist yet.

    For what a gate decides by: whoever replaces it has seen it, so that a missing etag is `InvalidInput`, which names
    ``read``, the call that answers with it, and a stale one is `Aborted`.
    """
    if current is None:
        if given:
            raise Aborted(f"{what} does not exist, so that etag {given} is stale; send none to create it")
    elif not given:
        problem = f"is required: {what} exists, and is replaced only by who has seen it; {read} answers with its etag"
        raise InvalidInput([FieldViolation("etag", problem)])
    elif given != etag(current):
        raise Aborted(f"{what} has etag {etag(current)}, but {given} was sent; read it again ({read})")


def lock_name(session: Session, kind: str, name: str) -> None:
    """Hold ``name`` among things of ``kind`` until the transaction ends: two writers that number, create or move the
    same name do it one after the other. SQLite has one writer, and so holds it anyway.

    Names with equal hashes wait for each other, which costs time and nothing else.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"{kind}:{name}"})
