"""Bearer tokens, hashed at rest."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON
from sqlmodel import Field, SQLModel

from tunix_rt.registry.kernel.columns import UtcDateTime


class TokenRow(SQLModel, table=True):
    """A named token with its roles. The token itself is shown once, when it is made, and stored nowhere."""

    __tablename__ = "tokens"

    # "sha256:" and 64 hex digits of the token.
    digest: str = Field(primary_key=True)
    name: str = Field(unique=True)
    roles: list[str] = Field(default_factory=list, sa_type=JSON)
    create_time: datetime = Field(sa_type=UtcDateTime)
    revoke_time: datetime | None = Field(default=None, sa_type=UtcDateTime)
