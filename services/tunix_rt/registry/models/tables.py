"""Rows of model versions, aliases, promotions, waivers and baselines."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Text, UniqueConstraint
from sqlmodel import Field

from tunix_rt.registry.kernel.archive import ArchiveColumns
from tunix_rt.registry.kernel.columns import ArtifactUri, UtcDateTime, append_only
from tunix_rt.registry.kernel.projects import ProjectColumns


class ModelVersionRow(ProjectColumns, ArchiveColumns, table=True):
    """One immutable model version; a reference gets its digest once, from the first evaluation that loads it."""

    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("project", "name", "version", name="uq_model_versions_project_name_version"),
        Index("ix_model_versions_project_create_time_id", "project", "create_time", "id"),
    )

    id: str = Field(primary_key=True)
    name: str = Field(index=True)
    version: int
    format: str
    uri: str = Field(default="", sa_type=ArtifactUri)
    digest: str = Field(default="", index=True)
    size_bytes: int = Field(default=0, sa_type=BigInteger)
    files: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    reference: str = Field(index=True, sa_type=ArtifactUri)
    lineage: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    # A run registers one model: unique, so that a repeated completion finds the first.
    run_id: str | None = Field(default=None, unique=True)
    tags: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    create_time: datetime = Field(sa_type=UtcDateTime, index=True)
    created_by: str = ""
    revision: int = 1
    # Unpinnings of models.proto as JSON objects, oldest first.
    unpinnings: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)


class AliasRow(ProjectColumns, table=True):
    """A movable name for one version of a model; ``revision`` grows with every change."""

    __tablename__ = "aliases"

    project: str = Field(default="", primary_key=True)
    model_name: str = Field(primary_key=True)
    alias: str = Field(primary_key=True)
    model_id: str = Field(foreign_key="model_versions.id")
    gate_policy_id: str | None = Field(default=None, foreign_key="gate_policies.id")
    # When the holder last changed: a gate decision older than this is stale.
    move_time: datetime = Field(sa_type=UtcDateTime)
    update_time: datetime = Field(sa_type=UtcDateTime)
    revision: int = 1


@append_only
class PromotionRow(ProjectColumns, table=True):
    """One move of an alias, or (with equal models) one change of its guard. Append-only."""

    __tablename__ = "promotions"
    # Who held an alias when.
    __table_args__ = (Index("ix_promotions_alias_create_time", "model_name", "alias", "create_time", "id"),)

    id: str = Field(primary_key=True)
    model_name: str
    alias: str
    from_model_id: str = ""
    to_model_id: str = Field(foreign_key="model_versions.id")
    gate_decision_id: str = ""
    waiver_reason: str = ""
    actor: str = ""
    create_time: datetime = Field(sa_type=UtcDateTime)
    from_gate_policy_id: str = ""
    to_gate_policy_id: str = ""
    # Of a change of the guard.
    reason: str = ""
    waiver_id: str = ""
    waiver_requested_by: str = ""
    note: str = ""


@append_only
class WaiverRow(ProjectColumns, table=True):
    """A request for one exception from an alias's guard. Append-only; the promotion that uses it names it."""

    __tablename__ = "waivers"
    __table_args__ = (Index("ix_waivers_alias_create_time", "model_name", "alias", "create_time", "id"),)

    id: str = Field(primary_key=True)
    model_name: str
    alias: str
    # The version that the alias may move to; None: it is about the guard.
    model_id: str | None = Field(default=None, foreign_key="model_versions.id")
    # The guard that the alias may get instead; None is none.
    gate_policy_id: str | None = Field(default=None, foreign_key="gate_policies.id")
    reason: str = Field(sa_type=Text)
    requested_by: str
    # It holds while the alias has this revision.
    alias_revision: int
    create_time: datetime = Field(sa_type=UtcDateTime)


@append_only
class BaselineRow(ProjectColumns, table=True):
    """One revision of a named baseline; the highest revision is in force. Append-only."""

    __tablename__ = "baselines"
    __table_args__ = (UniqueConstraint("project", "name", "revision", name="uq_baselines_project_name_revision"),)

    id: str = Field(primary_key=True)
    name: str = Field(index=True)
    revision: int
    evaluation_id: str = Field(foreign_key="evaluations.id")
    run_id: str = ""
    model_id: str
    identity: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    locked_by: str = ""
    note: str = ""
    create_time: datetime = Field(sa_type=UtcDateTime)
