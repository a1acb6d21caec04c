"""PostgreSQL dies, is away, stands still; the disk of a SQLite database is full: nothing acknowledged is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.chaos.crowd import Crowd, crowd_of, until
from tests.fixtures.nats import NatsServer
from tests.fixtures.postgres_process import PostgresProcess, postgres_process
from tests.fixtures.small_disks import fill, small_disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
Recovered = Callable[[float], None]


@pytest.fixture
def server() -> Iterator[PostgresProcess]:
    with postgres_process() as running:
        yield running


@pytest.fixture
def on_postgres(tmp_path: Path, nats: NatsServer, server: PostgresProcess) -> Iterator[Crowd]:
    with crowd_of(tmp_path, nats, database_url=server.url) as running:
        yield running


@pytest.mark.fault("PostgreSQL: kill -9 of all its processes, restart")
def test_killed(on_postgres: Crowd, server: PostgresProcess, recovered: Recovered) -> None:
    with on_postgres.clients.calling():
        for _ in range(3):
            on_postgres.until_more_end()
            server.kill()
            server.start()
            recovered(on_postgres.until_more_end(1))
    on_postgres.settle()


@pytest.mark.fault("PostgreSQL: down for 15 s")
def test_down(on_postgres: Crowd, server: PostgresProcess, recovered: Recovered) -> None:
    with on_postgres.clients.calling():
        on_postgres.until_more_end()
        server.stop()
        until("that health says it", lambda: on_postgres.registry.health() == "NOT_SERVING", 30)
        time.sleep(10)
        server.start()
        recovered(on_postgres.until_more_end(1))
    on_postgres.settle()
    assert on_postgres.registry.health() == "SERVING"


@pytest.mark.fault("PostgreSQL: stopped for 15 s")
def test_stopped(on_postgres: Crowd, server: PostgresProcess, recovered: Recovered) -> None:
    with on_postgres.clients.calling():
        on_postgres.until_more_end()
        server.signal(signal.SIGSTOP)
        time.sleep(15)
        server.signal(signal.SIGCONT)
        recovered(on_postgres.until_more_end(1))
    on_postgres.settle()


@pytest.mark.fault("PostgreSQL: registry kill -9")
def test_registry_killed(on_postgres: Crowd, recovered: Recovered) -> None:
    with on_postgres.clients.calling():
        for _ in range(3):
            on_postgres.until_more_end()
            on_postgres.registry.signal(signal.SIGKILL)
            on_postgres.registry.start()
            recovered(on_postgres.until_more_end(1))
    on_postgres.settle()


@pytest.mark.fault("SQLite: registry kill -9")
def test_registry_on_sqlite_killed(crowd: Crowd, recovered: Recovered) -> None:
    with crowd.clients.calling():
        for _ in range(3):
            crowd.until_more_end()
            crowd.registry.signal(signal.SIGKILL)
            crowd.registry.start()
            recovered(crowd.until_more_end(1))
    crowd.settle()


@pytest.fixture
def small_home(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", 64) as home:
        yield home


@pytest.mark.fault("SQLite: the registry's disk is full for 15 s")
def test_disk_full(small_home: Path, nats: NatsServer, recovered: Recovered, tmp_path: Path) -> None:
    """Database and artifacts are on the full disk; the trainers' logs are not, as with a supervisor."""
    with crowd_of(small_home, nats, logs=tmp_path) as crowd:
        with crowd.clients.calling():
            crowd.until_more_end()
            filler = fill(small_home)
            until("that health says it", lambda: crowd.registry.health() == "NOT_SERVING", 60)
            time.sleep(15)
            filler.unlink()
            recovered(crowd.until_more_end(1))
        crowd.settle()
        assert crowd.registry.health() == "SERVING"
