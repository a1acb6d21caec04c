"""Principals belong to a project, or to the whole instance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("principals", sa.Column("project", NAME, nullable=False, server_default=""))
    op.create_index("ix_principals_project", "principals", ["project"])


def downgrade() -> None:
    op.drop_index("ix_principals_project", table_name="principals")
    op.drop_column("principals", "project")
