"""Sweeps that pause; trials that repeat a configuration and remember what their search knew."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sweeps", sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("trials", sa.Column("configuration", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("trials", sa.Column("repeat", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("trials", sa.Column("observed", sa.JSON(), nullable=False, server_default="[]"))
    # Each was tried once.
    op.execute("UPDATE trials SET configuration = number")


def downgrade() -> None:
    for column in ("observed", "repeat", "configuration"):
        op.drop_column("trials", column)
    op.drop_column("sweeps", "paused")
