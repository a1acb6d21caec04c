"""Rows of evaluations, of their items and of the values they are ranked by. Scores in columns are copies of the stored
scorecard, for SQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Index
from sqlmodel import Field, SQLModel

from tunix_rt.registry.kernel.archive import ArchiveColumns
from tunix_rt.registry.kernel.columns import BINARY_JSON, UtcDateTime, append_only, tags_index
from tunix_rt.registry.kernel.job_tables import JobColumns


class EvaluationRow(JobColumns, ArchiveColumns, table=True):
    """One evaluation job. Immutable but for its state and its score, which comes with SUCCEEDED; where predictions are
    scored again, the former score becomes a `PastScoreRow`."""

    __tablename__ = "evaluations"
    # Which score identity of an evalset is the newest.
    __table_args__ = (
        Index("ix_evaluations_newest", "evalset_digest", "state", "create_time", "id"),
        # How many scores of an evalset are of other scorer versions.
        Index("ix_evaluations_scorers", "evalset_digest", "generation_digest", "scorer_version"),
        Index("ix_evaluations_project_create_time_id", "project", "create_time", "id"),
        tags_index("ix_evaluations_tags"),
    )

    run_id: str | None = Field(default=None, index=True)
    model_id: str = Field(index=True, foreign_key="model_versions.id")
    evalset_id: str = Field(index=True, foreign_key="evalsets.id")
    evalset_key: str = Field(index=True)
    # Copies, for filters: the model's registered name, and dataset and hyperparameters of the run that made it.
    model_name: str = Field(default="", index=True)
    dataset_id: str = Field(default="", index=True)
    config: dict[str, Any] = Field(default_factory=dict, sa_column=Column(BINARY_JSON, nullable=False))
    # Every field set: defaults are resolved when the evaluation is created.
    generation: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    evalset_digest: str
    generation_digest: str
    scorer_version: str
    # Empty until known: a model by reference gets its digest from the inferencer that first loaded it.
    model_digest: str = ""
    threshold: float = 0.5
    samples_per_item: int = 1
    tags: dict[str, str] = Field(default_factory=dict, sa_type=BINARY_JSON)
    scorecard: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    primary_score: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    coverage: float | None = None
    n_scored: int | None = None
    metric_means: dict[str, float] = Field(default_factory=dict, sa_type=JSON)
    verdict: str = ""
    # See Evaluation in evaluations.proto. The signature is base64.
    verified: bool = False
    signature: str = ""
    signing_key_id: str = ""
    # When the predictions were scored again; None for the score that the evaluation ended with.
    score_time: datetime | None = Field(default=None, sa_type=UtcDateTime)

    @property
    def identity(self) -> dict[str, str]:
        """The four digests that the score belongs to, under their names in ``ScoreIdentity``."""
        return {
            "evalset_digest": self.evalset_digest,
            "scorer_version": self.scorer_version,
            "generation_digest": self.generation_digest,
            "model_digest": self.model_digest,
        }


@append_only
class ScoreValueRow(SQLModel, table=True):
    """One value of a scorecard that leaderboards can be ordered by, with its interval. Never changed; those of archived
    and deleted evaluations go."""

    __tablename__ = "score_values"
    __table_args__ = (
        # A board's page is read from here in order, without sorting.
        Index("ix_score_values_board", "board", "name", "value", "evaluation_id"),
        {"sqlite_with_rowid": False},
    )

    evaluation_id: str = Field(primary_key=True, foreign_key="evaluations.id")
    name: str = Field(primary_key=True)
    # Digest of evalset, scorer and generation, and of the project.
    board: str
    value: float
    ci_low: float | None = None
    ci_high: float | None = None


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
    # The registry's own scoring of the prediction gives the same; an ERRORED sample has nothing to score.
    verified: bool = False
    epoch: int = 0
    create_time: datetime = Field(sa_type=UtcDateTime)


@append_only
class PastScoreRow(SQLModel, table=True):
    """A score that another one took the place of. Never changed; it goes with its evaluation."""

    __tablename__ = "past_scores"

    evaluation_id: str = Field(primary_key=True, foreign_key="evaluations.id")
    scorer_version: str = Field(primary_key=True)
    scorecard: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    # As of the evaluation, whose other digests never change.
    verified: bool = False
    signature: str = ""
    signing_key_id: str = ""
    score_time: datetime = Field(sa_type=UtcDateTime)
    replace_time: datetime = Field(sa_type=UtcDateTime)
    replaced_by: str = ""


@append_only
class PastItemScoreRow(SQLModel, table=True):
    """What a former scorer version made of one prediction, which is in the `ItemResultRow`. Never changed."""

    __tablename__ = "past_item_scores"

    evaluation_id: str = Field(primary_key=True, foreign_key="evaluations.id")
    scorer_version: str = Field(primary_key=True)
    item_id: str = Field(primary_key=True)
    sample_index: int = Field(primary_key=True)
    outcome: str
    extracted_answer: str = ""
    metrics: dict[str, float] = Field(default_factory=dict, sa_type=JSON)
    answer_correctness: float | None = None
    message: str = ""
    verified: bool = False
