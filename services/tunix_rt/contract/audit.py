"""The chain of the audit log: each event holds the digest of the one before it, and of itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tunix_rt.contract.digests import sha256_digest

# Everything that an event says, and its place.
FIELDS: Final = (
    "sequence",
    "time",
    "principal",
    "token_id",
    "peer",
    "method",
    "resource",
    "request_id",
    "outcome",
    "message",
    "count",
    "previous_digest",
    "project",
)
# Left out of the digest where they are empty: events of releases without them keep theirs.
_LATER: Final = frozenset({"project"})


def audit_digest(event: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of `FIELDS` (sorted keys, no spaces, UTF-8; times in UTC with microseconds; an empty
    project is left out)."""
    document = {name: _plain(event[name]) for name in FIELDS if event[name] or name not in _LATER}
    return sha256_digest(json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def broken_links(events: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with events in the order of their sequence, which begin with the first: a sentence each.

    Events that were cut off at the end cannot be seen from the others; keep the last digest elsewhere to find that out.
    """
    expected, digest = 1, ""
    for event in events:
        sequence = event["sequence"]
        if sequence != expected:
            yield f"event {expected} is missing: the next one is {sequence}"
        elif event["previous_digest"] != digest:
            yield f"event {sequence} does not follow the one before it: one of them was changed"
        if audit_digest(event) != event["digest"]:
            yield f"event {sequence} was changed: its digest is that of another content"
        expected, digest = sequence + 1, event["digest"]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value
