"""Lists of runs are read from indexes; metrics are written without looking for their run again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The initial schema left this key without a name; so PostgreSQL calls it, and batches on SQLite.
NAMES = {"fk": "%(table_name)s_%(column_0_name)s_fkey"}


def upgrade() -> None:
    op.drop_index("ix_runs_create_time", table_name="runs")
    op.drop_index("ix_runs_create_time_id", table_name="runs")
    op.drop_index("ix_runs_state", table_name="runs")
    op.create_index("ix_runs_listed", "runs", ["create_time", "id", "display_name", "base_model", "pool"])
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("runs", "tags", type_=postgresql.JSONB(), postgresql_using="tags::jsonb")
        op.create_index(
            "ix_runs_tags",
            "runs",
            ["tags"],
            postgresql_using="gin",
            postgresql_ops={"tags": "jsonb_path_ops"},
            postgresql_with={"fastupdate": "off"},
        )
    with op.batch_alter_table("metrics", naming_convention=NAMES, **_without_rowid()) as metrics:
        metrics.drop_constraint("metrics_run_id_fkey", type_="foreignkey")


def _without_rowid() -> dict[str, dict[str, bool]]:
    return {"table_kwargs": {"sqlite_with_rowid": False}}


def downgrade() -> None:
    with op.batch_alter_table("metrics", **_without_rowid()) as metrics:
        metrics.create_foreign_key("metrics_run_id_fkey", "runs", ["run_id"], ["id"])
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index("ix_runs_tags", table_name="runs")
        op.alter_column("runs", "tags", type_=sa.JSON(), postgresql_using="tags::json")
    op.drop_index("ix_runs_listed", table_name="runs")
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_index("ix_runs_create_time_id", "runs", ["create_time", "id"])
    op.create_index("ix_runs_create_time", "runs", ["create_time"])
