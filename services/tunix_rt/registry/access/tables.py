"""Rows of principals, their tokens, and the audit log."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Index, Integer
from sqlmodel import Field, SQLModel

from tunix_rt.registry.kernel.columns import UtcDateTime


class PrincipalRow(SQLModel, table=True):
    """Somebody who may call: a user or a service."""

    __tablename__ = "principals"

    name: str = Field(primary_key=True)
    # "user" or "service".
    kind: str
    roles: list[str] = Field(default_factory=list, sa_type=JSON)
    # Empty: all pools.
    pools: list[str] = Field(default_factory=list, sa_type=JSON)
    disabled: bool = False
    # "": the whole instance.
    project: str = Field(default="", index=True)
    create_time: datetime = Field(sa_type=UtcDateTime, index=True)
    created_by: str = ""
    revision: int = 1

    @property
    def id(self) -> str:
        """The name, which is what it is found by."""
        return self.name


class TokenRow(SQLModel, table=True):
    """A token of a principal. Its secret is shown once, when it is made, and stored nowhere."""

    __tablename__ = "access_tokens"

    id: str = Field(primary_key=True)
    # "sha256:" and 64 hex digits of the whole token.
    digest: str = Field(unique=True)
    principal: str = Field(index=True, foreign_key="principals.name")
    # Permissions; empty: all of the principal's.
    scopes: list[str] = Field(default_factory=list, sa_type=JSON)
    description: str = ""
    # Of a session: the token that it is a child of.
    parent_id: str = Field(default="", index=True)
    # It stands in the registry's settings, which also say when it ends.
    from_settings: bool = False
    create_time: datetime = Field(sa_type=UtcDateTime, index=True)
    created_by: str = ""
    expire_time: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_use_time: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoke_time: datetime | None = Field(default=None, sa_type=UtcDateTime)


class AuditRow(SQLModel, table=True):
    """One call, or several alike within a minute. Written in the transaction of the effect; then part of the chain."""

    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_project_sequence", "project", "sequence"),)

    # The order of writing; no place in the chain.
    id: int | None = Field(default=None, sa_type=BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    # Place in the chain; None until the event is part of it.
    sequence: int | None = Field(default=None, sa_type=BigInteger, unique=True)
    time: datetime = Field(sa_type=UtcDateTime, index=True)
    principal: str = Field(default="", index=True)
    token_id: str = ""
    peer: str = ""
    method: str = Field(index=True)
    resource: str = Field(default="", index=True)
    request_id: str = ""
    outcome: str = "OK"
    message: str = ""
    count: int = 1
    # That the call worked in; "" is the whole instance, and of events of earlier releases.
    project: str = ""
    previous_digest: str = ""
    digest: str = ""
