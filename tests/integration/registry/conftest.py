"""A real nats-server, and a migrated SQLite database, of each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.field_coverage import record_stored
from tests.fixtures.nats import NatsServer, running_nats

from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.resources import RESOURCES
from tunix_rt.registry.schema import migrate


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    with running_nats(tmp_path / "jetstream") as running:
        yield running


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/registry.sqlite", RESOURCES)
    migrate(opened)
    yield opened
    record_stored(opened)
