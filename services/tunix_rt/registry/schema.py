"""The database schema: brought up to date by Alembic, and checked before the registry serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from tunix_rt.errors import FailedPrecondition
from tunix_rt.registry.gates.rules import ensure_default_policy
from tunix_rt.registry.kernel.database import Database

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def migrate(database: Database, revision: str = "head") -> None:
    """Bring the schema to ``revision``, one process at a time on PostgreSQL. The newest holds what is built in."""
    connecting = database.engine.connect().execution_options(tunix_rt_write=True)
    with connecting as connection, tables_may_be_made_again(connection):
        upgrade(connection, revision)
    if revision == "head":
        database.commit(ensure_default_policy)


def upgrade(connection: Connection, revision: str) -> None:
    """Bring the schema to ``revision``, in the connection's transaction if it has begun one."""
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def revision_of(connection: Connection) -> str | None:
    """The revision of the database's schema; None if it has none."""
    return MigrationContext.configure(connection).get_current_revision()


def known_revisions() -> list[str]:
    """Revisions that this release knows, the newest first."""
    return [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()]


@contextmanager
def tables_may_be_made_again(connection: Connection) -> Iterator[None]:
    """SQLite changes a constraint by making the table again, which foreign keys that refer to it would refuse. That all
    of them hold afterwards is checked before the commit."""
    if connection.dialect.name != "sqlite":
        yield
        return
    # No effect within a transaction, which the next statement of the connection itself would begin.
    raw: Any = connection.connection.driver_connection
    raw.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        raw.execute("PRAGMA foreign_keys = ON")


def check_schema(database: Database) -> None:
    """Raise `FailedPrecondition`, saying what to do, unless the schema is the one that this version was written for."""
    wanted = ScriptDirectory.from_config(alembic_config()).get_current_head()
    with database.engine.connect() as connection:
        found = revision_of(connection)
    if found is None:
        raise FailedPrecondition("the database has no schema yet: run `python -m tunix_rt.registry migrate`")
    if found != wanted:
        raise FailedPrecondition(
            f"the database schema is revision {found}, and this registry knows {wanted}: "
            "run `python -m tunix_rt.registry migrate`, or start the version that the schema was made by"
        )


def write_as_it_is(session: Session) -> None:
    """Write the row with the schema's revision, unchanged: proof that the database takes writes, the only one that
    needs no row of its own. A transaction without statements proves nothing: it does not even begin."""
    session.execute(text("UPDATE alembic_version SET version_num = version_num"))


def alembic_config() -> Config:
    """Where the migrations are."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config
