"""What decisions need: values to order leaderboards by, slices of gates, copies to filter by, history that stays."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
BINARY_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
HISTORY = ("baselines", "gate_decisions", "gate_policies", "promotions", "score_values")
DIMENSIONS = {"section": "sections", "category": "categories", "difficulty": "difficulties"}
MIN_COVERAGE = 0.98


def upgrade() -> None:
    op.add_column("evaluations", sa.Column("model_name", NAME, nullable=False, server_default=""))
    op.add_column("evaluations", sa.Column("dataset_id", NAME, nullable=False, server_default=""))
    op.add_column("evaluations", sa.Column("config", BINARY_JSON, nullable=False, server_default="{}"))
    op.add_column("evaluations", sa.Column("metric_means", sa.JSON(), nullable=False, server_default="{}"))
    op.drop_index("ix_evaluations_leaderboard", table_name="evaluations")
    op.create_index("ix_evaluations_newest", "evaluations", ["evalset_digest", "state", "create_time", "id"])
    op.create_index("ix_evaluations_model_name", "evaluations", ["model_name"])
    op.create_index("ix_evaluations_dataset_id", "evaluations", ["dataset_id"])
    op.create_table(
        "score_values",
        sa.Column("evaluation_id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("board", NAME, nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("ci_low", sa.Float(), nullable=True),
        sa.Column("ci_high", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"]),
        sa.PrimaryKeyConstraint("evaluation_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_score_values_board", "score_values", ["board", "name", "value", "evaluation_id"])
    op.drop_index("ix_runs_dataset_id", table_name="runs")
    for column in ("state", "dataset_id", "model_name"):
        op.create_index(f"ix_runs_{column}_create_time_id", "runs", [column, "create_time", "id"])
    op.drop_index("ix_promotions_model_name", table_name="promotions")
    op.create_index("ix_promotions_alias_create_time", "promotions", ["model_name", "alias", "create_time", "id"])
    _widen_gates()
    _copy_for_filters(op.get_bind())
    _fill_score_values(op.get_bind())
    for table in HISTORY:
        _refuse_changes(table)


def _widen_gates() -> None:
    def metric() -> sa.Column[str]:
        return sa.Column("metric", NAME, nullable=False, server_default="answer_correctness")

    op.add_column("gate_policies", metric())
    op.add_column(
        "gate_policies", sa.Column("higher_is_better", sa.Boolean(), nullable=False, server_default=sa.true())
    )
    op.add_column("gate_policies", sa.Column("slices", sa.JSON(), nullable=False, server_default="[]"))
    with op.batch_alter_table("gate_decisions") as decisions:
        decisions.alter_column("baseline_evaluation_id", existing_type=NAME, nullable=True)
        decisions.add_column(metric())
        decisions.add_column(sa.Column("slices", sa.JSON(), nullable=False, server_default="[]"))


def _copy_for_filters(bind: sa.Connection) -> None:
    names = "(SELECT name FROM model_versions WHERE model_versions.id = evaluations.model_id)"
    bind.execute(sa.text(f"UPDATE evaluations SET model_name = COALESCE({names}, '')"))
    evaluations = sa.table(
        "evaluations", sa.column("run_id"), sa.column("dataset_id"), sa.column("config", BINARY_JSON)
    )
    runs = sa.text(
        "SELECT id, dataset_id, spec FROM runs WHERE id IN (SELECT run_id FROM evaluations WHERE run_id IS NOT NULL)"
    )
    for run_id, dataset_id, spec in bind.execute(runs).all():
        config = dict(_flat(json.loads(spec).get("hyperparameters", {}), ""))
        bind.execute(
            evaluations.update().where(evaluations.c.run_id == run_id).values(dataset_id=dataset_id, config=config)
        )


def _flat(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Names as in the contracts, 64-bit numbers (text in protobuf's JSON) as numbers; lists are left out."""
    for key, value in values.items():
        name = prefix + re.sub("[A-Z]", lambda letter: "_" + letter.group().lower(), key)
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif not isinstance(value, list):
            yield name, int(value) if name in ("max_steps", "seed") else value


def _fill_score_values(bind: sa.Connection) -> None:
    evaluations = sa.table(
        "evaluations",
        *(sa.column(name) for name in ("id", "evalset_digest", "scorer_version", "generation_digest")),
        sa.column("scorecard", sa.JSON(none_as_null=True)),
        sa.column("metric_means", sa.JSON),
    )
    columns = ("evaluation_id", "name", "board", "value", "ci_low", "ci_high")
    values = sa.table("score_values", *map(sa.column, columns))
    found = sa.select(evaluations).where(evaluations.c.scorecard.is_not(None))
    for row in bind.execute(found).all():
        means = row.scorecard["metric_means"]
        bind.execute(evaluations.update().where(evaluations.c.id == row.id).values(metric_means=means))
        board = hashlib.sha256(
            "\n".join((row.evalset_digest, row.scorer_version, row.generation_digest)).encode()
        ).hexdigest()[:32]
        rows = [
            dict(zip(columns, (row.id, name, board, *numbers), strict=True))
            for name, *numbers in _values(row.scorecard)
        ]
        bind.execute(values.insert(), rows)


def _values(card: dict[str, Any]) -> Iterator[tuple[str, float, float | None, float | None]]:
    yield "coverage", card["coverage"], None, None
    if card["coverage"] < MIN_COVERAGE or card["primary_score"] is None:
        return
    yield "primary_score", card["primary_score"], card["ci_low"], card["ci_high"]
    for metric, mean in card["metric_means"].items():
        yield f"metrics.{metric}", mean, None, None
    for part in card["slices"]:
        if part["primary_score"] is not None:
            name = f"{DIMENSIONS[part['dimension']]}.{part['value']}"
            yield name, part["primary_score"], part["ci_low"], part["ci_high"]


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


def downgrade() -> None:
    for table in HISTORY:
        _allow_changes(table)
    op.execute("DELETE FROM gate_decisions WHERE baseline_evaluation_id IS NULL")
    with op.batch_alter_table("gate_decisions") as decisions:
        decisions.alter_column("baseline_evaluation_id", existing_type=NAME, nullable=False)
        decisions.drop_column("metric")
        decisions.drop_column("slices")
    for column in ("metric", "higher_is_better", "slices"):
        op.drop_column("gate_policies", column)
    op.drop_index("ix_promotions_alias_create_time", table_name="promotions")
    op.create_index("ix_promotions_model_name", "promotions", ["model_name"])
    for column in ("state", "dataset_id", "model_name"):
        op.drop_index(f"ix_runs_{column}_create_time_id", table_name="runs")
    op.create_index("ix_runs_dataset_id", "runs", ["dataset_id"])
    op.drop_table("score_values")
    op.drop_index("ix_evaluations_dataset_id", table_name="evaluations")
    op.drop_index("ix_evaluations_model_name", table_name="evaluations")
    op.drop_index("ix_evaluations_newest", table_name="evaluations")
    for column in ("model_name", "dataset_id", "config", "metric_means"):
        op.drop_column("evaluations", column)
    op.create_index(
        "ix_evaluations_leaderboard",
        "evaluations",
        ["evalset_digest", "scorer_version", "generation_digest", "state", "primary_score", "id"],
    )
