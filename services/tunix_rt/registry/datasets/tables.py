"""Rows of dataset versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, UniqueConstraint
from sqlmodel import Field

from tunix_rt.registry.kernel.archive import ArchiveColumns
from tunix_rt.registry.kernel.columns import ArtifactUri, UtcDateTime
from tunix_rt.registry.kernel.projects import ProjectColumns


class DatasetRow(ProjectColumns, ArchiveColumns, table=True):
    """One immutable dataset version; the same key and content digest is one row of a project."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("project", "key", "digest", name="uq_datasets_project_key_digest"),
        Index("ix_datasets_project_create_time_id", "project", "create_time", "id"),
    )

    id: str = Field(primary_key=True)
    key: str = Field(index=True)
    digest: str = Field(index=True)
    uri: str = Field(sa_type=ArtifactUri)
    size_bytes: int = Field(sa_type=BigInteger)
    files: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    manifest: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    trace_count: int = Field(sa_type=BigInteger)
    tags: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    create_time: datetime = Field(sa_type=UtcDateTime, index=True)
    created_by: str = ""
    revision: int = 1
