"""CloudEvents 1.0 in NATS binary mode: attributes as ``ce-*`` headers, the body as canonical JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tunix_rt.observability.propagation import TRACEPARENT

MESSAGE_ID: Final = "Nats-Msg-Id"
SPEC_VERSION: Final = "1.0"


@dataclass(frozen=True)
class CloudEvent:
    """A command or a fact. ``subject`` is the NATS subject; ``resource_id`` travels as ``ce-subject``.

    ``time`` must be aware. ``data`` is canonical JSON (UTF-8) of a message in events.proto.
    """

    id: str
    type: str
    source: str
    subject: str
    resource_id: str
    time: datetime
    data: bytes
    traceparent: str = ""


def headers_of(event: CloudEvent) -> dict[str, str]:
    """Headers of a published event; ``Nats-Msg-Id`` is the event's id, so that JetStream drops a repetition."""
    headers = {
        MESSAGE_ID: event.id,
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
    return headers


def event_of(subject: str, headers: Mapping[str, Any] | None, data: bytes, *, fallback_id: str) -> CloudEvent:
    """The event in a message. Messages without ``ce-*`` headers (published by hand) get ``fallback_id`` and now."""
    found = {name.lower(): str(value) for name, value in (headers or {}).items()}
    identity = found.get("ce-id") or found.get(MESSAGE_ID.lower()) or fallback_id
    return CloudEvent(
        id=identity,
        type=found.get("ce-type", ""),
        source=found.get("ce-source", ""),
        subject=subject,
        resource_id=found.get("ce-subject", ""),
        time=_time(found.get("ce-time")),
        data=data,
        traceparent=found.get(TRACEPARENT, ""),
    )


def _time(text: str | None) -> datetime:
    if text:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            return datetime.now(UTC)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return datetime.now(UTC)
