"""The outbox: facts and commands in commit order, and what the relay remembers of the streams it publishes to."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, Text, text
from sqlmodel import Field, SQLModel

from tunix_rt.registry.kernel.columns import UtcDateTime


class OutboxRow(SQLModel, table=True):
    """One CloudEvent. Facts stay for replay; ``sequence`` follows the order of commits on both databases."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "ix_outbox_unpublished",
            "sequence",
            sqlite_where=text("published_time IS NULL"),
            postgresql_where=text("published_time IS NULL"),
        ),
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
    # Why it could never be published; such a row is skipped.
    publish_error: str = Field(default="", sa_type=Text)


class StreamRow(SQLModel, table=True):
    """A JetStream stream as last seen: another creation time means that it lost everything it held."""

    __tablename__ = "streams"

    name: str = Field(primary_key=True)
    created: str
    seen_time: datetime = Field(sa_type=UtcDateTime)
