"""Rows of gate policies and gate decisions; both are append-only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Index, UniqueConstraint
from sqlmodel import Field

from tunix_rt.registry.kernel.columns import UtcDateTime, append_only
from tunix_rt.registry.kernel.projects import ProjectColumns, SharedProjectColumns


@append_only
class GatePolicyRow(SharedProjectColumns, table=True):
    """One version of a named policy; the built-in one belongs to every project."""

    __tablename__ = "gate_policies"
    __table_args__ = (UniqueConstraint("project", "name", "version", name="uq_gate_policies_project_name_version"),)

    id: str = Field(primary_key=True)
    name: str = Field(index=True)
    version: int
    margin: float
    alpha: float
    min_coverage: float
    min_effect: float
    metric: str = "answer_correctness"
    higher_is_better: bool = True
    # SliceRules of `quality.gate` as JSON objects.
    slices: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    # Name of the baseline that candidates are compared with when none is given.
    baseline: str = ""
    description: str = ""
    create_time: datetime = Field(sa_type=UtcDateTime)
    created_by: str = ""


@append_only
class GateDecisionRow(ProjectColumns, table=True):
    """One decision, with the digest of all that went into it and came out."""

    __tablename__ = "gate_decisions"
    __table_args__ = (Index("ix_gate_decisions_project_create_time_id", "project", "create_time", "id"),)

    id: str = Field(primary_key=True)
    verdict: str = Field(index=True)
    policy_id: str = Field(index=True, foreign_key="gate_policies.id")
    # None when INVALID because there was no baseline to compare the candidate with.
    baseline_evaluation_id: str | None = Field(default=None, index=True, foreign_key="evaluations.id")
    candidate_evaluation_id: str = Field(index=True, foreign_key="evaluations.id")
    baseline_model_digest: str
    candidate_model_digest: str
    # None when the decision is INVALID before any statistics could be computed.
    statistics: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=True))
    lower_bound: float | None = None
    metric: str = "answer_correctness"
    # SliceDecisions of `quality.gate` as JSON objects.
    slices: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    items_needed: int = 0
    explanation: str = ""
    digest: str
    actor: str = ""
    # See GateDecision in models.proto. The signature is base64.
    verified: bool = False
    # Of the candidate's score that was decided on.
    scorer_version: str = ""
    signature: str = ""
    signing_key_id: str = ""
    create_time: datetime = Field(sa_type=UtcDateTime, index=True)
