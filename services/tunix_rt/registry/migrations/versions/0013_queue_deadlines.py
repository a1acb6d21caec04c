"""How long a job may wait for its first claim."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

JOBS = ("runs", "evaluations", "sweeps", "trials")


def upgrade() -> None:
    for table in JOBS:
        op.add_column(table, sa.Column("queue_deadline_seconds", sa.BigInteger(), nullable=False, server_default="0"))
        op.add_column(table, sa.Column("queue_deadline_time", sa.DateTime(timezone=True)))


def downgrade() -> None:
    for table in JOBS:
        op.drop_column(table, "queue_deadline_time")
        op.drop_column(table, "queue_deadline_seconds")
