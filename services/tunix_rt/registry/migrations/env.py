"""Alembic's entry: runs migrations on the connection that `schema.migrate` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from tunix_rt.registry.tables import METADATA

_MIGRATION_LOCK = 7_420_013


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        context.run_migrations()
        if connection.dialect.name == "sqlite":
            broken = connection.execute(text("PRAGMA foreign_key_check")).first()
            if broken is not None:
                raise RuntimeError(f"after the migrations a foreign key of {broken[0]} refers to no row of {broken[2]}")


_run(context.config.attributes["connection"])
