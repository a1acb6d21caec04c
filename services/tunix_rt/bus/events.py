"""CloudEvents 1.0 in NATS binary mode: attributes as ``ce-*`` headers, the body as canonical JSON.

Headers of a received message are untrusted: only those on an allow-list are read, and only when they are short,
printable ASCII.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tunix_rt.observability.propagation import TRACEPARENT

MESSAGE_ID: Final = "Nats-Msg-Id"
# How often the event was published before.
REPUBLISHED: Final = "tunix-republished"
# Of a fact that others have followed when it was published: the id of the newest of them.
NEWEST: Final = "tunix-newest-fact"
SPEC_VERSION: Final = "1.0"
_MESSAGE_ID_LOWER: Final = MESSAGE_ID.lower()
_ATTRIBUTES: Final = frozenset(
    {"ce-id", "ce-source", "ce-specversion", "ce-subject", "ce-time", "ce-type", "content-type", TRACEPARENT}
)
_MAX_VALUE_CHARACTERS: Final = 256


@dataclass(frozen=True)
class CloudEvent:
    """A command or a fact. ``subject`` is the NATS subject; ``resource_id`` travels as ``ce-subject``.

    ``time`` must be aware. ``data`` is canonical JSON (UTF-8) of a message in events.proto. ``repetition``: how often
    it was published before; ``copy`` names the occasion of another publication. For readers it is the same event.
    ``newest`` is the id of the newest fact that was published before it, where that has a later place.
    """

    id: str
    type: str
    source: str
    subject: str
    resource_id: str
    time: datetime
    data: bytes
    traceparent: str = ""
    repetition: int = 0
    copy: str = ""
    newest: str = ""


def headers_of(event: CloudEvent) -> dict[str, str]:
    """Headers of a published event; ``Nats-Msg-Id`` is the event's id, so that JetStream stores it once."""
    occasion = f"~{event.copy}" if event.copy else f"+{event.repetition}" if event.repetition else ""
    headers = {
        MESSAGE_ID: event.id + occasion,
        "ce-id": event.id,
        "ce-source": event.source,
        "ce-specversion": SPEC_VERSION,
        "ce-subject": event.resource_id,
        "ce-time": event.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ce-type": event.type,
        "content-type": "application/json",
    }
    if event.traceparent:
        headers[TRACEPARENT] = event.traceparent
    if event.repetition:
        headers[REPUBLISHED] = str(event.repetition)
    if event.newest:
        headers[NEWEST] = event.newest
    return headers


def newest_of(headers: Mapping[str, Any] | None) -> str:
    """Id of the newest fact that had been published with, or before, the one with these headers; "" if unknown."""
    found = _checked(headers)
    return found.get(NEWEST) or found.get("ce-id", "")


def event_of(subject: str, headers: Mapping[str, Any] | None, data: bytes, *, fallback_id: str) -> CloudEvent:
    """The event in a message; never raises.

    An attribute that is missing or malformed is empty; the id is then that of ``Nats-Msg-Id``, else ``fallback_id``,
    and the time is now.
    """
    found = attributes_of(headers)
    return CloudEvent(
        id=found.get("ce-id") or _checked(headers).get(_MESSAGE_ID_LOWER) or fallback_id,
        type=found.get("ce-type", ""),
        source=found.get("ce-source", ""),
        subject=subject,
        resource_id=found.get("ce-subject", ""),
        time=_time(found.get("ce-time", "")),
        data=data,
        traceparent=found.get(TRACEPARENT, ""),
    )


def attributes_of(headers: Mapping[str, Any] | None) -> dict[str, str]:
    """The headers that a copy of a message may carry: CloudEvents attributes, content type and trace context.

    Leaves out everything else, above all what controls delivery (``Nats-*``, ``Status``, ``tunix-*``).
    """
    return {name: value for name, value in _checked(headers).items() if name in _ATTRIBUTES}


def _checked(headers: Mapping[str, Any] | None) -> dict[str, str]:
    texts = ((name.lower(), str(value)) for name, value in (headers or {}).items())
    return {name: text for name, text in texts if 0 < len(text) <= _MAX_VALUE_CHARACTERS and _is_plain(text)}


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _time(text: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):  # OverflowError: year 1 or 9999 in another time zone
        return datetime.now(UTC)
