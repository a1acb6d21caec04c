"""The public keys that this registry has signed with. The private ones are in files, never in the database."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Field, SQLModel

from tunix_rt.registry.kernel.columns import UtcDateTime, append_only


@append_only
class SigningKeyRow(SQLModel, table=True):
    """One key, kept for good: what it signed stays. ``public_key`` as in models.proto. Append-only."""

    __tablename__ = "signing_keys"

    id: str = Field(primary_key=True)
    public_key: str
    create_time: datetime = Field(sa_type=UtcDateTime)
