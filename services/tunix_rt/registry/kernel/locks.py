"""Locks on names: two writers that number, create or move the same name do it one after the other."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session


def lock_name(session: Session, kind: str, name: str) -> None:
    """Hold ``name`` among things of ``kind`` until the transaction ends; SQLite has one writer, and so holds it anyway.

    Names that hash alike wait for each other, which costs time and nothing else.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"{kind}:{name}"})
