"""Rows of a team's work belong to a project, in which their names are unique.

What there is belongs to the project "default", the built-in gate policy to every project ("*").
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
# Tables with a name that was unique in the whole instance: the former constraint, and its columns.
NAMED = {
    "baselines": ("uq_baselines_name_revision", "uq_baselines_project_name_revision", ["name", "revision"]),
    "datasets": ("uq_datasets_key_digest", "uq_datasets_project_key_digest", ["key", "digest"]),
    "evalsets": ("uq_evalsets_key_digest", "uq_evalsets_project_key_digest", ["key", "digest"]),
    "gate_policies": (
        "uq_gate_policies_name_version",
        "uq_gate_policies_project_name_version",
        ["name", "version"],
    ),
    "model_versions": (
        "uq_model_versions_name_version",
        "uq_model_versions_project_name_version",
        ["name", "version"],
    ),
}
# Tables whose primary key has such a name.
KEYED = {"aliases": ["model_name", "alias"], "requests": ["method", "request_id"]}
OTHERS = ("evaluations", "gate_decisions", "outbox", "promotions", "runs", "sweeps", "trials", "waivers")
# Shown by project, the newest first.
LISTED = ("datasets", "evalsets", "evaluations", "gate_decisions", "model_versions", "runs", "sweeps")
# SQLite loses the triggers of a table that is made again.
HISTORY = ("baselines", "gate_policies")


def upgrade() -> None:
    for table in (*NAMED, *KEYED, *OTHERS):
        op.add_column(table, sa.Column("project", NAME, nullable=False, server_default="default"))
    for table in HISTORY:
        _allow_changes(table)
    op.execute("UPDATE gate_policies SET project = '*' WHERE created_by = 'registry'")
    for table, (before, after, columns) in NAMED.items():
        with op.batch_alter_table(table) as changed:
            changed.drop_constraint(before, type_="unique")
            changed.create_unique_constraint(after, ["project", *columns])
    for table, columns in KEYED.items():
        _key(table, ["project", *columns])
    for table in HISTORY:
        _refuse_changes(table)
    for table in LISTED:
        op.create_index(f"ix_{table}_project_create_time_id", table, ["project", "create_time", "id"])
    op.create_index("ix_outbox_project_sequence", "outbox", ["project", "sequence"])


def downgrade() -> None:
    """Raises where a name is used in several projects."""
    op.drop_index("ix_outbox_project_sequence", table_name="outbox")
    for table in LISTED:
        op.drop_index(f"ix_{table}_project_create_time_id", table_name=table)
    for table in HISTORY:
        _allow_changes(table)
    for table, columns in KEYED.items():
        _key(table, columns)
    for table, (before, after, columns) in NAMED.items():
        with op.batch_alter_table(table) as changed:
            changed.drop_constraint(after, type_="unique")
            changed.create_unique_constraint(before, columns)
    for table in HISTORY:
        _refuse_changes(table)
    for table in (*NAMED, *KEYED, *OTHERS):
        op.drop_column(table, "project")


def _key(table: str, columns: Sequence[str]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(f"{table}_pkey", table)
        op.create_primary_key(f"{table}_pkey", table, list(columns))
        return
    bind, metadata = op.get_bind(), sa.MetaData()
    before = sa.Table(table, metadata, autoload_with=bind)
    made = sa.Table(
        f"{table}_made_again",
        metadata,
        *(
            sa.Column(
                column.name,
                column.type,
                *(sa.ForeignKey(key.target_fullname) for key in column.foreign_keys),
                nullable=column.nullable,
                server_default=column.server_default,
            )
            for column in before.columns
        ),
        sa.PrimaryKeyConstraint(*columns),
    )
    made.create(bind)
    bind.execute(made.insert().from_select(before.columns.keys(), sa.select(before)))
    op.drop_table(table)
    op.rename_table(made.name, table)
    for index in before.indexes:
        op.create_index(index.name, table, [column.name for column in index.columns])


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


def _allow_changes(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP FUNCTION refuse_change_of_{table}() CASCADE")
        return
    for change in ("update", "delete"):
        op.execute(f"DROP TRIGGER {table}_no_{change}")
