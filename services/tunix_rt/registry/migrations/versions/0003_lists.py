"""Lists are read from indexes; metrics are written without looking for their run again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WITHOUT_ROWID = {"sqlite_with_rowid": False}
# The initial schema left this key without a name; so PostgreSQL calls it, and batches on SQLite.
NAMES = {"fk": "%(table_name)s_%(column_0_name)s_fkey"}


def upgrade() -> None:
    op.drop_index("ix_runs_create_time", table_name="runs")
    op.drop_index("ix_runs_create_time_id", table_name="runs")
    op.drop_index("ix_runs_state", table_name="runs")
    op.create_index("ix_runs_listed", "runs", ["create_time", "id", "display_name", "base_model", "pool"])
    if op.get_bind().dialect.name == "postgresql":
        for table in ("runs", "evaluations"):
            op.alter_column(table, "tags", type_=postgresql.JSONB(), postgresql_using="tags::jsonb")
            op.create_index(
                f"ix_{table}_tags",
                table,
                ["tags"],
                postgresql_using="gin",
                postgresql_ops={"tags": "jsonb_path_ops"},
                postgresql_with={"fastupdate": "off"},
            )
    with op.batch_alter_table("metrics", naming_convention=NAMES, table_kwargs=WITHOUT_ROWID) as metrics:
        metrics.drop_constraint("metrics_run_id_fkey", type_="foreignkey")


def downgrade() -> None:
    with op.batch_alter_table("metrics", table_kwargs=WITHOUT_ROWID) as metrics:
        metrics.create_foreign_key("metrics_run_id_fkey", "runs", ["run_id"], ["id"])
    if op.get_bind().dialect.name == "postgresql":
        for table in ("runs", "evaluations"):
            op.drop_index(f"ix_{table}_tags", table_name=table)
            op.alter_column(table, "tags", type_=sa.JSON(), postgresql_using="tags::json")
    op.drop_index("ix_runs_listed", table_name="runs")
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_index("ix_runs_create_time_id", "runs", ["create_time", "id"])
    op.create_index("ix_runs_create_time", "runs", ["create_time"])
