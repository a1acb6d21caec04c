"""Leases are credentials, scores are verified, exceptions from guards have two people, decisions and scores are signed.

Attempts that were running have no secret, so their workers lose the lease; scores that are there already stay not
verified and not signed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)
NEW_HISTORY = ("signing_keys", "waivers")
TEXT_COLUMNS = {
    "attempts": ("principal", "secret_hash"),
    "evaluations": ("signature", "signing_key_id"),
    "gate_decisions": ("signature", "signing_key_id"),
    "promotions": (
        "from_gate_policy_id",
        "to_gate_policy_id",
        "reason",
        "waiver_id",
        "waiver_requested_by",
        "note",
    ),
}
VERIFIED = ("evaluations", "gate_decisions", "item_results")


def upgrade() -> None:
    for table, columns in TEXT_COLUMNS.items():
        for column in columns:
            op.add_column(table, sa.Column(column, NAME, nullable=False, server_default=""))
    for table in VERIFIED:
        op.add_column(table, sa.Column("verified", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("model_versions", sa.Column("unpinnings", sa.JSON(), nullable=False, server_default="[]"))
    op.create_table(
        "waivers",
        sa.Column("id", NAME, nullable=False),
        sa.Column("model_name", NAME, nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("model_id", NAME, nullable=True),
        sa.Column("gate_policy_id", NAME, nullable=True),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("requested_by", NAME, nullable=False),
        sa.Column("alias_revision", sa.Integer(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["model_versions.id"]),
        sa.ForeignKeyConstraint(["gate_policy_id"], ["gate_policies.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_waivers_alias_create_time", "waivers", ["model_name", "alias", "create_time", "id"])
    op.create_table(
        "signing_keys",
        sa.Column("id", NAME, nullable=False),
        sa.Column("public_key", NAME, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    for table in NEW_HISTORY:
        _refuse_changes(table)


def downgrade() -> None:
    for table in NEW_HISTORY:
        op.drop_table(table)
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"DROP FUNCTION refuse_change_of_{table}()")
    op.drop_column("model_versions", "unpinnings")
    for table in VERIFIED:
        op.drop_column(table, "verified")
    for table, columns in TEXT_COLUMNS.items():
        for column in columns:
            op.drop_column(table, column)


def _refuse_changes(table: str) -> None:
    """Make the database itself refuse to change or delete what is history."""
    message = f"rows of {table} are written once and never changed"
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE FUNCTION refuse_change_of_{table}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{message}'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_written_once BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_{table}()"
        )
        return
    for change in ("update", "delete"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{change} BEFORE {change.upper()} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )
