"""The transactional outbox: events are written with the change they tell of, and published after it is durable.

Events are collected in the session and written as the last act of its transaction, under one lock: so sequences grow
in the order of commits, and whoever reads by sequence misses nothing. `relay` publishes them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from sqlalchemy import Index, Text, insert, select, text
from sqlalchemy.orm import Session
from sqlmodel import Field, SQLModel, col

from tunix_rt.contract.digests import canonical_json
from tunix_rt.observability import propagation
from tunix_rt.registry.kernel.columns import UtcDateTime
from tunix_rt.registry.kernel.commits import OUTBOX, notify_on_commit
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.kernel.projects import ProjectColumns, SharedProjectColumns
from tunix_rt.registry.kernel.resources import job_of, message_of, resource_of
from tunix_rt.registry.kernel.rows import new_id, utc_now
from tunix_rt.v1 import events_pb2

FACT: Final = "fact"
COMMAND: Final = "command"

_PENDING: Final = "tunix_rt.outbox"
# Any constant will do, as long as nothing else in the database uses it.
_SEQUENCE_LOCK: Final = 7_420_011


class OutboxRow(SharedProjectColumns, table=True):
    """One CloudEvent. Facts stay for replay; ``sequence`` follows the order of commits on both databases."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "ix_outbox_unpublished",
            "sequence",
            sqlite_where=text("published_time IS NULL"),
            postgresql_where=text("published_time IS NULL"),
        ),
        Index("ix_outbox_project_sequence", "project", "sequence"),
        {"sqlite_autoincrement": True},
    )

    sequence: int | None = Field(default=None, primary_key=True)
    id: str = Field(unique=True)
    # "fact" or "command".
    kind: str
    # NATS subject.
    subject: str = Field(index=True)
    # ce-type.
    type: str
    resource_id: str = Field(index=True)
    # Canonical JSON of a message of events.proto.
    body: str = Field(sa_type=Text)
    traceparent: str = ""
    create_time: datetime = Field(sa_type=UtcDateTime)
    published_time: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # How often it was published. JetStream drops what it has stored already by an id that this is part of.
    publications: int = 0
    # Why it could never be published; such a row is skipped.
    publish_error: str = Field(default="", sa_type=Text)


def emit_fact(session: Session, row: ProjectColumns, what: str, *, resource_id: str = "", **parts: SQLModel) -> None:
    """Add the fact ``tunix.evt.<resource>.<what>.<id>`` to the caller's transaction: ``row`` as it stands, and
    ``parts``, rows by their field in the resource's event.
    """
    resource = resource_of(session, row)
    assert resource.event is not None
    rows = {resource.field or resource.name: row, **parts}
    event = resource.event(**{name: message_of(session, part) for name, part in rows.items()})
    resource_id = resource_id or getattr(row, "id")  # noqa: B009
    subject = f"tunix.evt.{resource.name}.{what}.{resource_id}"
    _collect(session, FACT, subject, f"tunix_rt.{resource.name}.{what}.v1", resource_id, event, row.project)


def emit_command(session: Session, job: JobColumns) -> None:
    """Add the command that makes a worker claim ``job`` to the caller's transaction.

    Every call is a new event id, so that it is delivered again.
    """
    subject_of = job_of(session, job).command
    assert subject_of is not None
    subject = subject_of(job)
    verb = subject.removeprefix("tunix.cmd.").split(".")[0]
    command = events_pb2.JobCommand(job_id=job.id)
    _collect(session, COMMAND, subject, f"tunix_rt.command.{verb}.v1", job.id, command, job.project)


def is_newest_command(session: Session, event_id: str, subject: str, resource_id: str) -> bool:
    """Whether ``event_id`` is the last command that was sent for the job, on ``subject``."""
    sent = select(OutboxRow).where(col(OutboxRow.resource_id) == resource_id, col(OutboxRow.kind) == COMMAND)
    newest = session.scalars(sent.order_by(col(OutboxRow.sequence).desc()).limit(1)).first()
    return newest is not None and (newest.id, newest.subject) == (event_id, subject)


def _collect(
    session: Session, kind: str, subject: str, type_: str, resource_id: str, message: Message, project: str
) -> None:
    row = {
        "id": new_id("evt"),
        "kind": kind,
        "subject": subject,
        "type": type_,
        "resource_id": resource_id,
        "body": canonical_json(MessageToDict(message)),
        "traceparent": propagation.inject(),
        "create_time": utc_now(),
        "publications": 0,
        "publish_error": "",
        "project": project,
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
    notify_on_commit(session, OUTBOX)
