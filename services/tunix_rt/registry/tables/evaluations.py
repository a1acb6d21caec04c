"""Rows of evaluations and of their item results. Scores in columns are copies of the stored scorecard, for SQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Index
from sqlmodel import Field, SQLModel

from tunix_rt.registry.tables.columns import UtcDateTime
from tunix_rt.registry.tables.jobs import JobColumns


class EvaluationRow(JobColumns, table=True):
    """One evaluation job. Immutable but for its state; the scorecard is written once, with SUCCEEDED."""

    __tablename__ = "evaluations"
    __table_args__ = (
        # What the leaderboard reads: one score identity, best first.
        Index(
            "ix_evaluations_leaderboard",
            "evalset_digest",
            "scorer_version",
            "generation_digest",
            "state",
            "primary_score",
            "id",
        ),
    )

    run_id: str | None = Field(default=None, index=True)
    model_id: str = Field(index=True, foreign_key="model_versions.id")
    evalset_id: str = Field(index=True, foreign_key="evalsets.id")
    evalset_key: str = Field(index=True)
    # Every field set: defaults are resolved when the evaluation is created.
    generation: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    evalset_digest: str
    generation_digest: str
    scorer_version: str
    # Empty until known: a model by reference gets its digest from the inferencer that first loaded it.
    model_digest: str = ""
    threshold: float = 0.5
    samples_per_item: int = 1
    tags: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    scorecard: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    primary_score: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    coverage: float | None = None
    n_scored: int | None = None
    verdict: str = ""

    @property
    def identity(self) -> dict[str, str]:
        """The four digests that the score belongs to, under their names in ``ScoreIdentity``."""
        return {
            "evalset_digest": self.evalset_digest,
            "scorer_version": self.scorer_version,
            "generation_digest": self.generation_digest,
            "model_digest": self.model_digest,
        }


class ItemResultRow(SQLModel, table=True):
    """What one attempt recorded for one sample of one item; the first record stays."""

    __tablename__ = "item_results"

    evaluation_id: str = Field(primary_key=True, foreign_key="evaluations.id")
    item_id: str = Field(primary_key=True)
    sample_index: int = Field(primary_key=True)
    outcome: str
    prediction: str = ""
    extracted_answer: str = ""
    metrics: dict[str, float] = Field(default_factory=dict, sa_type=JSON)
    # Copy of metrics["answer_correctness"], for filters.
    answer_correctness: float | None = None
    message: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    epoch: int = 0
    create_time: datetime = Field(sa_type=UtcDateTime)
