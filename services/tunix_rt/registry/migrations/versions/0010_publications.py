"""Facts can be published again: the outbox counts publications. Which stream was seen last is no longer asked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("outbox", sa.Column("publications", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE outbox SET publications = 1 WHERE published_time IS NOT NULL")
    op.drop_table("streams")


def downgrade() -> None:
    op.create_table(
        "streams",
        sa.Column("name", NAME, primary_key=True),
        sa.Column("created", NAME, nullable=False),
        sa.Column("seen_time", sa.DateTime(timezone=True), nullable=False),
    )
    op.drop_column("outbox", "publications")
