"""Archiving and deleting: when rows were hidden, and what was deleted.

Log lines, as metrics before, do not refer to their run, so that those of a deleted one go bit by bit.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
ARCHIVED = ("datasets", "evalsets", "evaluations", "model_versions", "runs", "sweeps")
LISTED = ["create_time", "id", "display_name", "base_model", "pool"]
WITHOUT_ROWID = {"sqlite_with_rowid": False}
# The initial schema left this key without a name; so PostgreSQL calls it, and batches on SQLite.
NAMES = {"fk": "%(table_name)s_%(column_0_name)s_fkey"}


def upgrade() -> None:
    for table in ARCHIVED:
        op.add_column(table, sa.Column("archive_time", sa.DateTime(timezone=True), nullable=True))
    op.drop_index("ix_runs_listed", table_name="runs")
    op.create_index("ix_runs_listed", "runs", [*LISTED, "archive_time"])
    op.add_column("runs", sa.Column("initial_run_id", TEXT, nullable=False, server_default=""))
    _fill_initial_runs()
    op.create_index("ix_runs_initial_run_id", "runs", ["initial_run_id"])
    _create_partial_index("ix_checkpoints_removed", "checkpoints", ["run_id", "step"], where="removed")
    with op.batch_alter_table("run_logs", naming_convention=NAMES, table_kwargs=WITHOUT_ROWID) as logs:
        logs.drop_constraint("run_logs_run_id_fkey", type_="foreignkey")
    _let_score_values_go()
    op.create_table(
        "tombstones",
        sa.Column("project", TEXT, nullable=False),
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("deleted_with", TEXT, nullable=False),
        sa.Column("deleted_by", TEXT, nullable=False),
        sa.Column("delete_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("unfinished", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_tombstones_delete_time", "tombstones", ["delete_time"])
    op.create_index("ix_tombstones_name", "tombstones", ["project", "kind", "name", "version"])
    _create_partial_index("ix_tombstones_unfinished", "tombstones", ["id"], where="unfinished")


def downgrade() -> None:
    op.drop_table("tombstones")
    _keep_score_values()
    op.execute("DELETE FROM run_logs WHERE run_id NOT IN (SELECT id FROM runs)")
    with op.batch_alter_table("run_logs", table_kwargs=WITHOUT_ROWID) as logs:
        logs.create_foreign_key("run_logs_run_id_fkey", "runs", ["run_id"], ["id"])
    op.drop_index("ix_checkpoints_removed", table_name="checkpoints")
    op.drop_index("ix_runs_initial_run_id", table_name="runs")
    op.drop_column("runs", "initial_run_id")
    op.drop_index("ix_runs_listed", table_name="runs")
    op.create_index("ix_runs_listed", "runs", LISTED)
    for table in ARCHIVED:
        op.drop_column(table, "archive_time")


def _let_score_values_go() -> None:
    """They are what leaderboards are read from, made of scorecards: those of hidden and deleted evaluations go. None is
    ever changed."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER score_values_written_once ON score_values")
        op.execute(
            "CREATE TRIGGER score_values_written_once BEFORE UPDATE ON score_values "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_score_values()"
        )
    else:
        op.execute("DROP TRIGGER score_values_no_delete")


def _keep_score_values() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER score_values_written_once ON score_values")
        op.execute(
            "CREATE TRIGGER score_values_written_once BEFORE UPDATE OR DELETE OR TRUNCATE ON score_values "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_score_values()"
        )
    else:
        op.execute(
            "CREATE TRIGGER score_values_no_delete BEFORE DELETE ON score_values "
            "BEGIN SELECT RAISE(ABORT, 'rows of score_values are written once and never changed'); END"
        )


def _create_partial_index(name: str, table: str, columns: list[str], *, where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _fill_initial_runs() -> None:
    """Copy out of the specs which run each starts from."""
    runs = sa.table("runs", sa.column("id"), sa.column("spec"), sa.column("initial_run_id"))
    bind = op.get_bind()
    for row in bind.execute(sa.select(runs.c.id, runs.c.spec).where(runs.c.spec.contains("initial_checkpoint"))).all():
        source = json.loads(row.spec).get("initial_checkpoint") or {}
        if source.get("run_id"):
            bind.execute(runs.update().where(runs.c.id == row.id).values(initial_run_id=source["run_id"]))
