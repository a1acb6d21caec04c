"""Rows of what was deleted."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, text
from sqlmodel import Field

from tunix_rt.registry.kernel.columns import UtcDateTime
from tunix_rt.registry.kernel.projects import ProjectColumns


class TombstoneRow(ProjectColumns, table=True):
    """A resource that was deleted, and by whom."""

    __tablename__ = "tombstones"
    __table_args__ = (
        Index(
            "ix_tombstones_unfinished",
            "id",
            sqlite_where=text("unfinished"),
            postgresql_where=text("unfinished"),
        ),
        Index("ix_tombstones_name", "project", "kind", "name", "version"),
    )

    id: str = Field(primary_key=True)
    kind: str
    name: str = ""
    # Of a model version; 0 elsewhere. Versions are not given again.
    version: int = 0
    # Id of the resource that it was deleted with; "" where it was asked for itself.
    deleted_with: str = ""
    deleted_by: str = ""
    delete_time: datetime = Field(sa_type=UtcDateTime, index=True)
    # Metric points or log lines may still be there; the retention loop removes them bit by bit.
    unfinished: bool = False
