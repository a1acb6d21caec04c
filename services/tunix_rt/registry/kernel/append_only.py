"""Rows that are written once: history that the registry itself cannot rewrite through its sessions."""

from __future__ import annotations

from typing import NoReturn, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.orm import Mapper
from sqlmodel import SQLModel

T = TypeVar("T", bound=SQLModel)


def append_only(table: type[T]) -> type[T]:
    """Make every change and every deletion of a stored row of ``table`` a TypeError, and its transaction fail."""
    event.listen(table, "before_update", _refuse)
    event.listen(table, "before_delete", _refuse)
    return table


def _refuse(mapper: Mapper[SQLModel], connection: Connection, row: SQLModel) -> NoReturn:
    raise TypeError(f"rows of {mapper.local_table} are written once and never changed: {row!r}")
