"""Databases for the contract suite: every test runs on SQLite and on PostgreSQL, each on an empty database of its own.

PostgreSQL is a container where a Docker engine answers, else the local binary, else those tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.fixtures.postgres_process import binaries

from tunix_rt.quality.rescoring import Rescorer
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.schema import migrate
from tunix_rt.rpc import lanes

_IMAGE = "postgres:15-bookworm"
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
_SEQUENCES = "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"
_ROWS = "SELECT json_agg(rows)::text FROM {} AS rows"
_INSERT = "INSERT INTO {0} SELECT * FROM json_populate_recordset(NULL::{0}, %s)"


@pytest.fixture(autouse=True)
def patient_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls wait for longer than a second: a machine that pauses refuses none. Overload has tests of its own."""
    monkeypatch.setattr(lanes, "QUEUE_SECONDS", 20.0)


class PostgresServer:
    """A server that tests own. ``lend`` gives a migrated database without data, which ``give_back`` empties for the
    next test: that takes a tenth of the time of a new one."""

    def __init__(self, host: str, port: int, password: str) -> None:
        self._authority = f"postgres:{password}@{host}:{port}" if password else f"postgres@{host}:{port}"
        self._template = "template_" + uuid.uuid4().hex
        self._execute(f"CREATE DATABASE \"{self._template}\" ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0")
        database = Database(self.url(self._template))
        migrate(database)
        database.close()
        self._ready: list[str] = []
        with self._connect(self._template) as connection:
            self._tables = [name for (name,) in connection.execute(_TABLES)]
            self._sequences = [name for (name,) in connection.execute(_SEQUENCES)]
            # What the migrations themselves insert.
            self._rows = {name: connection.execute(_ROWS.format(name)).fetchone() for name in self._tables}

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://{self._authority}/{name}"

    def create(self, *, empty: bool = False) -> str:
        """A database with every table, or (``empty``) none."""
        name = "test_" + uuid.uuid4().hex
        # Whatever the cluster's own encoding is.
        like = "ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0" if empty else f'TEMPLATE "{self._template}"'
        self._execute(f'CREATE DATABASE "{name}" {like}')
        return name

    def drop(self, name: str) -> None:
        self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def lend(self) -> str:
        """A database with every table, and the rows of the migrations."""
        return self._ready.pop() if self._ready else self.create()

    def give_back(self, name: str) -> None:
        """Empties a lent database; connections to it that are still open are ended."""
        statements = [
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            # No trigger refuses a change, and foreign keys set no order.
            "SET session_replication_role = replica",
            *(f"DELETE FROM {table}" for table in self._tables),
            *(f"ALTER SEQUENCE {sequence} RESTART" for sequence in self._sequences),
        ]
        with self._connect(name) as connection:
            connection.execute("; ".join(statements))  # type: ignore[call-overload]
            for table, rows in self._rows.items():
                if rows and rows[0]:
                    connection.execute(_INSERT.format(table), rows)  # type: ignore[call-overload]
        self._ready.append(name)

    def _execute(self, statement: str) -> None:
        with self._connect("postgres") as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def _connect(self, name: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(f"postgresql://{self._authority}/{name}", autocommit=True)


def _docker_image_at_hand() -> bool:
    try:
        import docker
        from docker.errors import DockerException, ImageNotFound
    except ImportError:
        return False
    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return False
    try:
        client.images.get(_IMAGE)
    except ImageNotFound:
        return bool(os.environ.get("TUNIX_RT_TEST_PULL_IMAGES"))
    except DockerException:
        return False
    finally:
        client.close()
    return True


@contextmanager
def _container() -> Iterator[PostgresServer]:
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.core.config import testcontainers_config

    # The fixture stops the container itself; a second image just for that is not at hand everywhere.
    testcontainers_config.ryuk_disabled = True
    command = "postgres -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200"
    with PostgresContainer(_IMAGE, username="postgres", password="postgres").with_command(command) as container:
        yield PostgresServer(container.get_container_host_ip(), int(container.get_exposed_port(5432)), "postgres")


@contextmanager
def _local_server(place: Path) -> Iterator[PostgresServer]:
    # PostgreSQL refuses to run as root: then it runs as its own user, in a directory that this user owns.
    user = "postgres" if os.geteuid() == 0 else None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = Path(tempfile.mkdtemp(prefix="tunix-rt-postgres-"))
    data = home / "data"
    if user:
        shutil.chown(home, user)

    def run(*arguments: str) -> None:
        subprocess.run(
            arguments, check=True, cwd=home, user=user, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60
        )

    control = str(place / "pg_ctl")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=200"
    try:
        run(str(place / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        run(control, "-D", str(data), "-w", "-l", str(home / "log"), "-o", options, "start")
        try:
            yield PostgresServer("127.0.0.1", port, "")
        finally:
            run(control, "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for the session."""
    with ExitStack() as stack:
        place = binaries()
        if _docker_image_at_hand():
            yield stack.enter_context(_container())
        elif place is not None:
            yield stack.enter_context(_local_server(place))
        else:
            pytest.skip(f"no Docker engine with {_IMAGE}, and no local PostgreSQL")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite"
    database = Database(f"sqlite:///{path}")
    migrate(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty, migrated database."""
    if request.param == "sqlite":
        path = tmp_path / "registry.sqlite"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.lend()
    yield server.url(name)
    server.give_back(name)


@pytest.fixture(scope="session")
def rescorer() -> Iterator[Rescorer]:
    """The worker processes that score predictions again; they start when they are needed."""
    made = Rescorer(processes=2)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.sqlite"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create(empty=True)
    yield server.url(name)
    server.drop(name)
