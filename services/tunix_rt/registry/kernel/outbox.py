"""The transactional outbox: events are written with the change they tell of, and published after it is durable.

Events are collected in the session and written as the last act of its transaction, under one lock: so sequences grow
in the order of commits, and whoever reads by sequence misses nothing. Does not know NATS; `relay` publishes.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from tunix_rt.contract.digests import canonical_json
from tunix_rt.observability import propagation
from tunix_rt.registry.kernel.clock import utc_now
from tunix_rt.registry.kernel.commits import OUTBOX, touch
from tunix_rt.registry.kernel.event_tables import OutboxRow
from tunix_rt.registry.kernel.ids import new_id

FACT: Final = "fact"
COMMAND: Final = "command"

_PENDING: Final = "tunix_rt.outbox"
# Any constant will do, as long as nothing else in the database uses it.
_SEQUENCE_LOCK: Final = 7_420_011


def message_json(message: Message) -> str:
    """Canonical JSON of a protobuf message, in proto3 JSON mapping (camelCase names)."""
    return canonical_json(MessageToDict(message))


def emit_fact(session: Session, kind: str, what: str, resource_id: str, message: Message) -> None:
    """Add the fact ``tunix.evt.<kind>.<what>.<resource id>`` to the caller's transaction."""
    _collect(
        session, FACT, f"tunix.evt.{kind}.{what}.{resource_id}", f"tunix_rt.{kind}.{what}.v1", resource_id, message
    )


def emit_command(session: Session, subject: str, message: Message, *, resource_id: str = "") -> None:
    """Add a command to the caller's transaction; every call is a new event id, so that it is delivered again."""
    verb = subject.removeprefix("tunix.cmd.").split(".")[0]
    _collect(session, COMMAND, subject, f"tunix_rt.command.{verb}.v1", resource_id, message)


def _collect(session: Session, kind: str, subject: str, type_: str, resource_id: str, message: Message) -> None:
    row = {
        "id": new_id("evt"),
        "kind": kind,
        "subject": subject,
        "type": type_,
        "resource_id": resource_id,
        "body": message_json(message),
        "traceparent": propagation.inject(),
        "create_time": utc_now(),
        "publish_error": "",
    }
    session.info.setdefault(_PENDING, []).append(row)


def write_pending(session: Session) -> None:
    """Write what was emitted in this session. Called once, right before the commit."""
    pending: list[dict[str, Any]] = session.info.pop(_PENDING, [])
    if not pending:
        return
    if session.get_bind().dialect.name == "postgresql":
        # Held until the commit. Every other lock of this transaction is held already, so nobody waits in a circle.
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SEQUENCE_LOCK})
    # Nothing is returned, so both drivers execute it row by row: sequences follow the order of the list.
    session.execute(insert(OutboxRow), pending)
    touch(session, OUTBOX)
