"""A database server that closes connections, as one does that is restarted: what the registry's callers see of it."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tunix_rt.errors import Transient
from tunix_rt.registry.kernel.database import Database


@pytest.fixture
def url(database_url: str) -> str:
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite has no server")
    return database_url


def answer(database: Database, *, statement: bool = False) -> int:
    with database.read(statement=statement) as session:
        return session.execute(text("SELECT 42")).scalar_one()


def close_all(url: str) -> None:
    """End every other session of this database."""
    other = Database(url)
    with other.read() as session:
        session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    other.close()


@pytest.mark.parametrize("statement", [True, False])
def test_a_connection_that_died_while_it_was_idle_is_replaced(url: str, statement: bool) -> None:
    database = Database(url, trusted_seconds=0)
    assert answer(database, statement=statement) == 42
    close_all(url)
    assert answer(database, statement=statement) == 42
    assert database.commit(lambda session: session.execute(text("SELECT 43")).scalar_one()) == 43
    database.close()


@pytest.mark.parametrize("statement", [True, False])
def test_one_that_was_used_a_moment_ago_fails_once_as_transient(url: str, statement: bool) -> None:
    database = Database(url, trusted_seconds=3600)
    assert answer(database, statement=statement) == 42
    close_all(url)
    with pytest.raises(Transient):
        answer(database, statement=statement)
    assert answer(database, statement=statement) == 42
    database.close()
