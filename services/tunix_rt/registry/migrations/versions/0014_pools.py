"""Which pools of workers are served."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "pools",
        sa.Column("project", NAME, nullable=False),
        sa.Column("subject", NAME, primary_key=True),
        sa.Column("served_time", sa.DateTime(timezone=True)),
        sa.Column("unserved_since", sa.DateTime(timezone=True)),
    )


def downgrade() -> None:
    op.drop_table("pools")
