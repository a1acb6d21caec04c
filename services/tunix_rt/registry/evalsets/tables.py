"""Rows of evalset versions and their items."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from tunix_rt.registry.kernel.archive import ArchiveColumns
from tunix_rt.registry.kernel.columns import UtcDateTime
from tunix_rt.registry.kernel.projects import ProjectColumns


class EvalSetRow(ProjectColumns, ArchiveColumns, table=True):
    """One immutable evalset version; the same key and content digest is one row of a project."""

    __tablename__ = "evalsets"
    __table_args__ = (
        UniqueConstraint("project", "key", "digest", name="uq_evalsets_project_key_digest"),
        Index("ix_evalsets_project_create_time_id", "project", "create_time", "id"),
    )

    id: str = Field(primary_key=True)
    key: str = Field(index=True)
    digest: str = Field(index=True)
    item_count: int
    sections: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    categories: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    difficulties: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    answer_types: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    description: str = ""
    tags: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    create_time: datetime = Field(sa_type=UtcDateTime, index=True)
    created_by: str = ""
    revision: int = 1


class EvalSetItemRow(SQLModel, table=True):
    """One question; ``document`` is the whole item, the other columns are what lists filter and slice by."""

    __tablename__ = "evalset_items"
    __table_args__ = (UniqueConstraint("evalset_id", "position", name="uq_evalset_items_position"),)

    evalset_id: str = Field(primary_key=True, foreign_key="evalsets.id")
    item_id: str = Field(primary_key=True)
    # Place in the file, from 0.
    position: int
    section: str = ""
    category: str = ""
    difficulty: str = ""
    answer_type: str
    document: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
