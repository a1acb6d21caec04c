"""The initial schema: every table of the registry."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Text sorts by code point on both databases.
NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)
# SQLite numbers only columns declared INTEGER, which hold 64 bits there.
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", NAME, nullable=False),
        sa.Column("job_id", NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker_id", NAME, nullable=False),
        sa.Column("start_time", TIME, nullable=False),
        sa.Column("end_time", TIME, nullable=True),
        sa.Column("heartbeat_time", TIME, nullable=False),
        sa.Column("outcome", NAME, nullable=False),
        sa.Column("reason", NAME, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("resumed_step", sa.BigInteger(), nullable=False),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_attempts_job_id", "attempts", ["job_id"])
    op.create_table(
        "datasets",
        sa.Column("id", NAME, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("digest", NAME, nullable=False),
        sa.Column("uri", NAME, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("trace_count", sa.BigInteger(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key", "digest", name="uq_datasets_key_digest"),
    )
    op.create_index("ix_datasets_create_time", "datasets", ["create_time"])
    op.create_index("ix_datasets_digest", "datasets", ["digest"])
    op.create_index("ix_datasets_key", "datasets", ["key"])
    op.create_table(
        "evalsets",
        sa.Column("id", NAME, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("digest", NAME, nullable=False),
        sa.Column("item_count", sa.Integer(), nullable=False),
        sa.Column("sections", sa.JSON(), nullable=False),
        sa.Column("categories", sa.JSON(), nullable=False),
        sa.Column("difficulties", sa.JSON(), nullable=False),
        sa.Column("answer_types", sa.JSON(), nullable=False),
        sa.Column("description", NAME, nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key", "digest", name="uq_evalsets_key_digest"),
    )
    op.create_index("ix_evalsets_create_time", "evalsets", ["create_time"])
    op.create_index("ix_evalsets_digest", "evalsets", ["digest"])
    op.create_index("ix_evalsets_key", "evalsets", ["key"])
    op.create_table(
        "gate_policies",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("margin", sa.Float(), nullable=False),
        sa.Column("alpha", sa.Float(), nullable=False),
        sa.Column("min_coverage", sa.Float(), nullable=False),
        sa.Column("min_effect", sa.Float(), nullable=False),
        sa.Column("baseline", NAME, nullable=False),
        sa.Column("description", NAME, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", "version", name="uq_gate_policies_name_version"),
    )
    op.create_index("ix_gate_policies_name", "gate_policies", ["name"])
    op.create_table(
        "model_versions",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("format", NAME, nullable=False),
        sa.Column("uri", NAME, nullable=False),
        sa.Column("digest", NAME, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("reference", NAME, nullable=False),
        sa.Column("lineage", sa.JSON(), nullable=False),
        sa.Column("run_id", NAME, nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", "version", name="uq_model_versions_name_version"),
        sa.UniqueConstraint("run_id"),
    )
    op.create_index("ix_model_versions_create_time", "model_versions", ["create_time"])
    op.create_index("ix_model_versions_digest", "model_versions", ["digest"])
    op.create_index("ix_model_versions_name", "model_versions", ["name"])
    op.create_index("ix_model_versions_reference", "model_versions", ["reference"])
    op.create_table(
        "outbox",
        sa.Column("sequence", SEQUENCE, nullable=False),
        sa.Column("id", NAME, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("subject", NAME, nullable=False),
        sa.Column("type", NAME, nullable=False),
        sa.Column("resource_id", NAME, nullable=False),
        sa.Column("body", TEXT, nullable=False),
        sa.Column("traceparent", NAME, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("published_time", TIME, nullable=True),
        sa.Column("publish_error", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_resource_id", "outbox", ["resource_id"])
    op.create_index("ix_outbox_subject", "outbox", ["subject"])
    op.create_index(
        "ix_outbox_unpublished",
        "outbox",
        ["sequence"],
        unique=False,
        sqlite_where=sa.text("published_time IS NULL"),
        postgresql_where=sa.text("published_time IS NULL"),
    )
    op.create_table(
        "requests",
        sa.Column("method", NAME, nullable=False),
        sa.Column("request_id", NAME, nullable=False),
        sa.Column("payload_digest", NAME, nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("create_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("method", "request_id"),
    )
    op.create_index("ix_requests_create_time", "requests", ["create_time"])
    op.create_table(
        "runs",
        sa.Column("id", NAME, nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("reason", NAME, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("progress_done", sa.BigInteger(), nullable=False),
        sa.Column("progress_total", sa.BigInteger(), nullable=False),
        sa.Column("progress_unit", NAME, nullable=False),
        sa.Column("progress_stage", NAME, nullable=False),
        sa.Column("progress_time", TIME, nullable=True),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("start_time", TIME, nullable=True),
        sa.Column("end_time", TIME, nullable=True),
        sa.Column("deadline_seconds", sa.BigInteger(), nullable=False),
        sa.Column("deadline_time", TIME, nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("lease_attempt_id", NAME, nullable=True),
        sa.Column("lease_expire_time", TIME, nullable=True),
        sa.Column("worker_id", NAME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("cancel_reason", NAME, nullable=False),
        sa.Column("cancel_message", TEXT, nullable=False),
        sa.Column("display_name", NAME, nullable=False),
        sa.Column("spec", TEXT, nullable=False),
        sa.Column("spec_digest", NAME, nullable=False),
        sa.Column("pool", NAME, nullable=False),
        sa.Column("base_model", NAME, nullable=False),
        sa.Column("dataset_id", NAME, nullable=False),
        sa.Column("model_name", NAME, nullable=False),
        sa.Column("gate_policy", NAME, nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("model_id", NAME, nullable=True),
        sa.Column("evaluation_ids", sa.JSON(), nullable=False),
        sa.Column("sweep_id", NAME, nullable=True),
        sa.Column("trial_id", NAME, nullable=True),
        sa.Column("last_metrics", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_runs_create_time", "runs", ["create_time"])
    op.create_index("ix_runs_create_time_id", "runs", ["create_time", "id"])
    op.create_index("ix_runs_dataset_id", "runs", ["dataset_id"])
    op.create_index("ix_runs_lease_expire_time", "runs", ["lease_expire_time"])
    op.create_index("ix_runs_model_id", "runs", ["model_id"])
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_index("ix_runs_sweep_id", "runs", ["sweep_id"])
    op.create_index("ix_runs_trial_id", "runs", ["trial_id"])
    op.create_table(
        "streams",
        sa.Column("name", NAME, nullable=False),
        sa.Column("created", NAME, nullable=False),
        sa.Column("seen_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "sweeps",
        sa.Column("id", NAME, nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("reason", NAME, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("progress_done", sa.BigInteger(), nullable=False),
        sa.Column("progress_total", sa.BigInteger(), nullable=False),
        sa.Column("progress_unit", NAME, nullable=False),
        sa.Column("progress_stage", NAME, nullable=False),
        sa.Column("progress_time", TIME, nullable=True),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("start_time", TIME, nullable=True),
        sa.Column("end_time", TIME, nullable=True),
        sa.Column("deadline_seconds", sa.BigInteger(), nullable=False),
        sa.Column("deadline_time", TIME, nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("lease_attempt_id", NAME, nullable=True),
        sa.Column("lease_expire_time", TIME, nullable=True),
        sa.Column("worker_id", NAME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("cancel_reason", NAME, nullable=False),
        sa.Column("cancel_message", TEXT, nullable=False),
        sa.Column("display_name", NAME, nullable=False),
        sa.Column("spec", TEXT, nullable=False),
        sa.Column("objective_metric", NAME, nullable=False),
        sa.Column("objective_mode", NAME, nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_sweeps_create_time", "sweeps", ["create_time"])
    op.create_index("ix_sweeps_create_time_id", "sweeps", ["create_time", "id"])
    op.create_index("ix_sweeps_lease_expire_time", "sweeps", ["lease_expire_time"])
    op.create_index("ix_sweeps_state", "sweeps", ["state"])
    op.create_table(
        "tokens",
        sa.Column("digest", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("revoke_time", TIME, nullable=True),
        sa.PrimaryKeyConstraint("digest"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "transitions",
        sa.Column("sequence", SEQUENCE, nullable=False),
        sa.Column("job_id", NAME, nullable=False),
        sa.Column("from_state", NAME, nullable=False),
        sa.Column("to_state", NAME, nullable=False),
        sa.Column("reason", NAME, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index("ix_transitions_job_id_sequence", "transitions", ["job_id", "sequence"])
    op.create_table(
        "aliases",
        sa.Column("model_name", NAME, nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("model_id", NAME, nullable=False),
        sa.Column("gate_policy_id", NAME, nullable=True),
        sa.Column("move_time", TIME, nullable=False),
        sa.Column("update_time", TIME, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["gate_policy_id"],
            ["gate_policies.id"],
        ),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["model_versions.id"],
        ),
        sa.PrimaryKeyConstraint("model_name", "alias"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("uri", NAME, nullable=False),
        sa.Column("digest", NAME, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["runs.id"],
        ),
        sa.PrimaryKeyConstraint("run_id", "step"),
    )
    op.create_table(
        "evalset_items",
        sa.Column("evalset_id", NAME, nullable=False),
        sa.Column("item_id", NAME, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("section", NAME, nullable=False),
        sa.Column("category", NAME, nullable=False),
        sa.Column("difficulty", NAME, nullable=False),
        sa.Column("answer_type", NAME, nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evalset_id"],
            ["evalsets.id"],
        ),
        sa.PrimaryKeyConstraint("evalset_id", "item_id"),
        sa.UniqueConstraint("evalset_id", "position", name="uq_evalset_items_position"),
    )
    op.create_table(
        "evaluations",
        sa.Column("id", NAME, nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("reason", NAME, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("progress_done", sa.BigInteger(), nullable=False),
        sa.Column("progress_total", sa.BigInteger(), nullable=False),
        sa.Column("progress_unit", NAME, nullable=False),
        sa.Column("progress_stage", NAME, nullable=False),
        sa.Column("progress_time", TIME, nullable=True),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("start_time", TIME, nullable=True),
        sa.Column("end_time", TIME, nullable=True),
        sa.Column("deadline_seconds", sa.BigInteger(), nullable=False),
        sa.Column("deadline_time", TIME, nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("lease_attempt_id", NAME, nullable=True),
        sa.Column("lease_expire_time", TIME, nullable=True),
        sa.Column("worker_id", NAME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("cancel_reason", NAME, nullable=False),
        sa.Column("cancel_message", TEXT, nullable=False),
        sa.Column("run_id", NAME, nullable=True),
        sa.Column("model_id", NAME, nullable=False),
        sa.Column("evalset_id", NAME, nullable=False),
        sa.Column("evalset_key", NAME, nullable=False),
        sa.Column("generation", sa.JSON(), nullable=False),
        sa.Column("evalset_digest", NAME, nullable=False),
        sa.Column("generation_digest", NAME, nullable=False),
        sa.Column("scorer_version", NAME, nullable=False),
        sa.Column("model_digest", NAME, nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("samples_per_item", sa.Integer(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("scorecard", sa.JSON(), nullable=True),
        sa.Column("primary_score", sa.Float(), nullable=True),
        sa.Column("ci_low", sa.Float(), nullable=True),
        sa.Column("ci_high", sa.Float(), nullable=True),
        sa.Column("coverage", sa.Float(), nullable=True),
        sa.Column("n_scored", sa.Integer(), nullable=True),
        sa.Column("verdict", NAME, nullable=False),
        sa.ForeignKeyConstraint(
            ["evalset_id"],
            ["evalsets.id"],
        ),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["model_versions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_evaluations_create_time", "evaluations", ["create_time"])
    op.create_index("ix_evaluations_evalset_id", "evaluations", ["evalset_id"])
    op.create_index("ix_evaluations_evalset_key", "evaluations", ["evalset_key"])
    op.create_index(
        "ix_evaluations_leaderboard",
        "evaluations",
        ["evalset_digest", "scorer_version", "generation_digest", "state", "primary_score", "id"],
    )
    op.create_index("ix_evaluations_lease_expire_time", "evaluations", ["lease_expire_time"])
    op.create_index("ix_evaluations_model_id", "evaluations", ["model_id"])
    op.create_index("ix_evaluations_run_id", "evaluations", ["run_id"])
    op.create_index("ix_evaluations_state", "evaluations", ["state"])
    op.create_table(
        "metrics",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["runs.id"],
        ),
        sa.PrimaryKeyConstraint("run_id", "key", "step"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "promotions",
        sa.Column("id", NAME, nullable=False),
        sa.Column("model_name", NAME, nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("from_model_id", NAME, nullable=False),
        sa.Column("to_model_id", NAME, nullable=False),
        sa.Column("gate_decision_id", NAME, nullable=False),
        sa.Column("waiver_reason", NAME, nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["to_model_id"],
            ["model_versions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_promotions_model_name", "promotions", ["model_name"])
    op.create_table(
        "run_logs",
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("level", NAME, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["runs.id"],
        ),
        sa.PrimaryKeyConstraint("run_id", "attempt", "sequence"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trials",
        sa.Column("id", NAME, nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("reason", NAME, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("progress_done", sa.BigInteger(), nullable=False),
        sa.Column("progress_total", sa.BigInteger(), nullable=False),
        sa.Column("progress_unit", NAME, nullable=False),
        sa.Column("progress_stage", NAME, nullable=False),
        sa.Column("progress_time", TIME, nullable=True),
        sa.Column("create_time", TIME, nullable=False),
        sa.Column("start_time", TIME, nullable=True),
        sa.Column("end_time", TIME, nullable=True),
        sa.Column("deadline_seconds", sa.BigInteger(), nullable=False),
        sa.Column("deadline_time", TIME, nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("lease_attempt_id", NAME, nullable=True),
        sa.Column("lease_expire_time", TIME, nullable=True),
        sa.Column("worker_id", NAME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("cancel_reason", NAME, nullable=False),
        sa.Column("cancel_message", TEXT, nullable=False),
        sa.Column("sweep_id", NAME, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("objective", sa.Float(), nullable=True),
        sa.Column("ci_low", sa.Float(), nullable=True),
        sa.Column("ci_high", sa.Float(), nullable=True),
        sa.Column("evaluation_id", NAME, nullable=True),
        sa.ForeignKeyConstraint(
            ["sweep_id"],
            ["sweeps.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sweep_id", "number", name="uq_trials_sweep_id_number"),
    )
    op.create_index("ix_trials_create_time", "trials", ["create_time"])
    op.create_index("ix_trials_lease_expire_time", "trials", ["lease_expire_time"])
    op.create_index("ix_trials_run_id", "trials", ["run_id"])
    op.create_index("ix_trials_state", "trials", ["state"])
    op.create_index("ix_trials_sweep_id", "trials", ["sweep_id"])
    op.create_table(
        "baselines",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("evaluation_id", NAME, nullable=False),
        sa.Column("run_id", NAME, nullable=False),
        sa.Column("model_id", NAME, nullable=False),
        sa.Column("identity", sa.JSON(), nullable=False),
        sa.Column("locked_by", NAME, nullable=False),
        sa.Column("note", NAME, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"],
            ["evaluations.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", "revision", name="uq_baselines_name_revision"),
    )
    op.create_index("ix_baselines_name", "baselines", ["name"])
    op.create_table(
        "gate_decisions",
        sa.Column("id", NAME, nullable=False),
        sa.Column("verdict", NAME, nullable=False),
        sa.Column("policy_id", NAME, nullable=False),
        sa.Column("baseline_evaluation_id", NAME, nullable=False),
        sa.Column("candidate_evaluation_id", NAME, nullable=False),
        sa.Column("baseline_model_digest", NAME, nullable=False),
        sa.Column("candidate_model_digest", NAME, nullable=False),
        sa.Column("statistics", sa.JSON(), nullable=True),
        sa.Column("lower_bound", sa.Float(), nullable=True),
        sa.Column("items_needed", sa.Integer(), nullable=False),
        sa.Column("explanation", NAME, nullable=False),
        sa.Column("digest", NAME, nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["baseline_evaluation_id"],
            ["evaluations.id"],
        ),
        sa.ForeignKeyConstraint(
            ["candidate_evaluation_id"],
            ["evaluations.id"],
        ),
        sa.ForeignKeyConstraint(
            ["policy_id"],
            ["gate_policies.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_gate_decisions_baseline_evaluation_id", "gate_decisions", ["baseline_evaluation_id"])
    op.create_index("ix_gate_decisions_candidate_evaluation_id", "gate_decisions", ["candidate_evaluation_id"])
    op.create_index("ix_gate_decisions_create_time", "gate_decisions", ["create_time"])
    op.create_index("ix_gate_decisions_policy_id", "gate_decisions", ["policy_id"])
    op.create_index("ix_gate_decisions_verdict", "gate_decisions", ["verdict"])
    op.create_table(
        "item_results",
        sa.Column("evaluation_id", NAME, nullable=False),
        sa.Column("item_id", NAME, nullable=False),
        sa.Column("sample_index", sa.Integer(), nullable=False),
        sa.Column("outcome", NAME, nullable=False),
        sa.Column("prediction", NAME, nullable=False),
        sa.Column("extracted_answer", NAME, nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("answer_correctness", sa.Float(), nullable=True),
        sa.Column("message", NAME, nullable=False),
        sa.Column("finish_reason", NAME, nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("create_time", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"],
            ["evaluations.id"],
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "item_id", "sample_index"),
    )


def downgrade() -> None:
    op.drop_table("item_results")
    op.drop_index("ix_gate_decisions_verdict", table_name="gate_decisions")
    op.drop_index("ix_gate_decisions_policy_id", table_name="gate_decisions")
    op.drop_index("ix_gate_decisions_create_time", table_name="gate_decisions")
    op.drop_index("ix_gate_decisions_candidate_evaluation_id", table_name="gate_decisions")
    op.drop_index("ix_gate_decisions_baseline_evaluation_id", table_name="gate_decisions")
    op.drop_table("gate_decisions")
    op.drop_index("ix_baselines_name", table_name="baselines")
    op.drop_table("baselines")
    op.drop_index("ix_trials_sweep_id", table_name="trials")
    op.drop_index("ix_trials_state", table_name="trials")
    op.drop_index("ix_trials_run_id", table_name="trials")
    op.drop_index("ix_trials_lease_expire_time", table_name="trials")
    op.drop_index("ix_trials_create_time", table_name="trials")
    op.drop_table("trials")
    op.drop_table("run_logs")
    op.drop_index("ix_promotions_model_name", table_name="promotions")
    op.drop_table("promotions")
    op.drop_table("metrics")
    op.drop_index("ix_evaluations_state", table_name="evaluations")
    op.drop_index("ix_evaluations_run_id", table_name="evaluations")
    op.drop_index("ix_evaluations_model_id", table_name="evaluations")
    op.drop_index("ix_evaluations_lease_expire_time", table_name="evaluations")
    op.drop_index("ix_evaluations_leaderboard", table_name="evaluations")
    op.drop_index("ix_evaluations_evalset_key", table_name="evaluations")
    op.drop_index("ix_evaluations_evalset_id", table_name="evaluations")
    op.drop_index("ix_evaluations_create_time", table_name="evaluations")
    op.drop_table("evaluations")
    op.drop_table("evalset_items")
    op.drop_table("checkpoints")
    op.drop_table("aliases")
    op.drop_index("ix_transitions_job_id_sequence", table_name="transitions")
    op.drop_table("transitions")
    op.drop_table("tokens")
    op.drop_index("ix_sweeps_state", table_name="sweeps")
    op.drop_index("ix_sweeps_lease_expire_time", table_name="sweeps")
    op.drop_index("ix_sweeps_create_time_id", table_name="sweeps")
    op.drop_index("ix_sweeps_create_time", table_name="sweeps")
    op.drop_table("sweeps")
    op.drop_table("streams")
    op.drop_index("ix_runs_trial_id", table_name="runs")
    op.drop_index("ix_runs_sweep_id", table_name="runs")
    op.drop_index("ix_runs_state", table_name="runs")
    op.drop_index("ix_runs_model_id", table_name="runs")
    op.drop_index("ix_runs_lease_expire_time", table_name="runs")
    op.drop_index("ix_runs_dataset_id", table_name="runs")
    op.drop_index("ix_runs_create_time_id", table_name="runs")
    op.drop_index("ix_runs_create_time", table_name="runs")
    op.drop_table("runs")
    op.drop_index("ix_requests_create_time", table_name="requests")
    op.drop_table("requests")
    op.drop_index(
        "ix_outbox_unpublished",
        table_name="outbox",
        sqlite_where=sa.text("published_time IS NULL"),
        postgresql_where=sa.text("published_time IS NULL"),
    )
    op.drop_index("ix_outbox_subject", table_name="outbox")
    op.drop_index("ix_outbox_resource_id", table_name="outbox")
    op.drop_table("outbox")
    op.drop_index("ix_model_versions_reference", table_name="model_versions")
    op.drop_index("ix_model_versions_name", table_name="model_versions")
    op.drop_index("ix_model_versions_digest", table_name="model_versions")
    op.drop_index("ix_model_versions_create_time", table_name="model_versions")
    op.drop_table("model_versions")
    op.drop_index("ix_gate_policies_name", table_name="gate_policies")
    op.drop_table("gate_policies")
    op.drop_index("ix_evalsets_key", table_name="evalsets")
    op.drop_index("ix_evalsets_digest", table_name="evalsets")
    op.drop_index("ix_evalsets_create_time", table_name="evalsets")
    op.drop_table("evalsets")
    op.drop_index("ix_datasets_key", table_name="datasets")
    op.drop_index("ix_datasets_digest", table_name="datasets")
    op.drop_index("ix_datasets_create_time", table_name="datasets")
    op.drop_table("datasets")
    op.drop_index("ix_attempts_job_id", table_name="attempts")
    op.drop_table("attempts")
