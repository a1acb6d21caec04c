"""Scores by other scorer versions: former ones stay, and decisions name the version of theirs.

Audit events name the project that their call worked in. Those of before have none, so that their digests hold.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)
# Never changed, but gone with their evaluation.
PAST = ("past_scores", "past_item_scores")


def upgrade() -> None:
    op.add_column("evaluations", sa.Column("score_time", TIME, nullable=True))
    op.create_index("ix_evaluations_scorers", "evaluations", ["evalset_digest", "generation_digest", "scorer_version"])
    op.add_column("gate_decisions", sa.Column("scorer_version", TEXT, nullable=False, server_default=""))
    _fill_scorer_versions()
    op.add_column("audit_events", sa.Column("project", TEXT, nullable=False, server_default=""))
    op.create_index("ix_audit_events_project_sequence", "audit_events", ["project", "sequence"])
    op.create_table(
        "past_scores",
        sa.Column("evaluation_id", TEXT, sa.ForeignKey("evaluations.id"), primary_key=True),
        sa.Column("scorer_version", TEXT, primary_key=True),
        sa.Column("scorecard", sa.JSON(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("signature", TEXT, nullable=False),
        sa.Column("signing_key_id", TEXT, nullable=False),
        sa.Column("score_time", TIME, nullable=False),
        sa.Column("replace_time", TIME, nullable=False),
        sa.Column("replaced_by", TEXT, nullable=False),
    )
    op.create_table(
        "past_item_scores",
        sa.Column("evaluation_id", TEXT, sa.ForeignKey("evaluations.id"), primary_key=True),
        sa.Column("scorer_version", TEXT, primary_key=True),
        sa.Column("item_id", TEXT, primary_key=True),
        sa.Column("sample_index", sa.Integer(), primary_key=True),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("extracted_answer", TEXT, nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("answer_correctness", sa.Float(), nullable=True),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
    )
    for table in PAST:
        _refuse_updates(table)


def downgrade() -> None:
    """Former scores are lost."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in reversed(PAST):
        op.drop_table(table)
        if postgresql:
            op.execute(f"DROP FUNCTION refuse_change_of_{table}()")
    op.drop_index("ix_audit_events_project_sequence", table_name="audit_events")
    op.drop_column("audit_events", "project")
    op.drop_column("gate_decisions", "scorer_version")
    op.drop_index("ix_evaluations_scorers", table_name="evaluations")
    op.drop_column("evaluations", "score_time")


def _refuse_updates(table: str) -> None:
    message = f"rows of {table} are written once and never changed"
    if op.get_bind().dialect.name != "postgresql":
        op.execute(
            f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION refuse_change_of_{table}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{message}'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_written_once BEFORE UPDATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_{table}()"
    )


def _fill_scorer_versions() -> None:
    """Until now a score was never made again: decisions are of the version that their candidate's score has."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    message = "rows of gate_decisions are written once and never changed"
    if postgresql:
        op.execute("ALTER TABLE gate_decisions DISABLE TRIGGER gate_decisions_written_once")
    else:
        op.execute("DROP TRIGGER gate_decisions_no_update")
    op.execute(
        "UPDATE gate_decisions SET scorer_version = coalesce((SELECT evaluations.scorer_version FROM evaluations "
        "WHERE evaluations.id = gate_decisions.candidate_evaluation_id), '')"
    )
    if postgresql:
        op.execute("ALTER TABLE gate_decisions ENABLE TRIGGER gate_decisions_written_once")
    else:
        op.execute(
            "CREATE TRIGGER gate_decisions_no_update BEFORE UPDATE ON gate_decisions "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )
