"""Principals with tokens that expire, are rotated and have scopes; the audit log.

A token of before becomes a principal of its name with that token, which goes on working without an end.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "principals",
        sa.Column("name", NAME, primary_key=True),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("pools", sa.JSON(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
    )
    op.create_index("ix_principals_create_time", "principals", ["create_time"])
    op.create_table(
        "access_tokens",
        sa.Column("id", NAME, primary_key=True),
        sa.Column("digest", NAME, nullable=False, unique=True),
        sa.Column("principal", NAME, sa.ForeignKey("principals.name"), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("description", NAME, nullable=False),
        sa.Column("parent_id", NAME, nullable=False),
        sa.Column("from_settings", sa.Boolean(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("expire_time", TIME, nullable=True),
        sa.Column("last_use_time", TIME, nullable=True),
        sa.Column("revoke_time", TIME, nullable=True),
    )
    for column in ("principal", "parent_id", "create_time"):
        op.create_index(f"ix_access_tokens_{column}", "access_tokens", [column])
    op.create_table(
        "audit_events",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("sequence", sa.BigInteger(), nullable=True, unique=True),
        sa.Column("time", TIME, nullable=False),
        sa.Column("principal", NAME, nullable=False),
        sa.Column("token_id", NAME, nullable=False),
        sa.Column("peer", NAME, nullable=False),
        sa.Column("method", NAME, nullable=False),
        sa.Column("resource", NAME, nullable=False),
        sa.Column("request_id", NAME, nullable=False),
        sa.Column("outcome", NAME, nullable=False),
        sa.Column("message", NAME, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("previous_digest", NAME, nullable=False),
        sa.Column("digest", NAME, nullable=False),
    )
    for column in ("time", "principal", "method", "resource"):
        op.create_index(f"ix_audit_events_{column}", "audit_events", [column])
    _convert_tokens()
    op.drop_table("tokens")


def _convert_tokens() -> None:
    bind = op.get_bind()
    former = sa.table(
        "tokens",
        *(sa.column(name) for name in ("digest", "name")),
        sa.column("roles", sa.JSON()),
        *(sa.column(name, TIME) for name in ("create_time", "revoke_time")),
    )
    principals = sa.table(
        "principals",
        *(sa.column(name) for name in ("name", "kind", "disabled", "created_by", "revision")),
        *(sa.column(name, sa.JSON()) for name in ("roles", "pools")),
        sa.column("create_time", TIME),
    )
    tokens = sa.table(
        "access_tokens",
        *(sa.column(name) for name in ("id", "digest", "principal", "description", "parent_id", "created_by")),
        sa.column("from_settings", sa.Boolean()),
        sa.column("scopes", sa.JSON()),
        *(sa.column(name, TIME) for name in ("create_time", "revoke_time")),
    )
    for row in bind.execute(sa.select(former)).all():
        kind = "service" if "worker" in row.roles else "user"
        bind.execute(
            principals.insert().values(
                name=row.name,
                kind=kind,
                roles=row.roles,
                pools=[],
                disabled=False,
                create_time=row.create_time,
                created_by="",
                revision=1,
            )
        )
        # An id of the usual form, made of what is there.
        token_id = "tok-0" + row.digest.removeprefix("sha256:")[:25]
        bind.execute(
            tokens.insert().values(
                id=token_id,
                digest=row.digest,
                principal=row.name,
                scopes=[],
                description="",
                parent_id="",
                from_settings=False,
                create_time=row.create_time,
                created_by="",
                revoke_time=row.revoke_time,
            )
        )


def downgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("digest", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("revoke_time", TIME, nullable=True),
        sa.PrimaryKeyConstraint("digest"),
        sa.UniqueConstraint("name"),
    )
    for table in ("audit_events", "access_tokens", "principals"):
        op.drop_table(table)
