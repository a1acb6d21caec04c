"""Answers given to request ids (AIP-155)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary
from sqlmodel import Field, SQLModel

from tunix_rt.registry.kernel.columns import UtcDateTime


class RequestRow(SQLModel, table=True):
    """The first answer to a request id, kept so that a repeat gets the same one."""

    __tablename__ = "requests"

    method: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
    payload_digest: str
    # None only inside the transaction that makes the answer.
    response: bytes | None = Field(default=None, sa_type=LargeBinary)
    create_time: datetime = Field(sa_type=UtcDateTime, index=True)
