"""A nats-server and a connection of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from tests.fixtures.nats import NatsServer, running_nats

from tunix_rt.bus.connection import connect


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with running_nats(tmp_path / "jetstream") as running:
        yield running


@pytest.fixture
async def client(server: NatsServer) -> AsyncIterator[Client]:
    connection = await connect(server, name="test")
    yield connection
    await connection.close()
