"""Rows that can be hidden from lists."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlmodel import Field, SQLModel, col

from tunix_rt.registry.kernel.columns import UtcDateTime
from tunix_rt.registry.kernel.filters import FilterField, Kind

ARCHIVED: Final = "archived"


class ArchiveColumns(SQLModel):
    """Mixin of a table whose rows can be archived: hidden from lists that do not ask for them."""

    # When it was hidden; None while it is shown.
    archive_time: datetime | None = Field(default=None, sa_type=UtcDateTime)


def archived_field(table: type[ArchiveColumns]) -> dict[str, FilterField]:
    """The field that a filter asks for archived rows with. A list whose filter does not name it shows none."""
    return {ARCHIVED: FilterField(col(table.archive_time).is_not(None), Kind.BOOLEAN)}
