"""A nats-server and a crowd around a registry for each test that wants them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.crowd import Crowd, crowd_of
from tests.fixtures.nats import NatsServer, running_nats


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    with running_nats(tmp_path / "jetstream") as server:
        yield server


@pytest.fixture
def crowd(tmp_path: Path, nats: NatsServer) -> Iterator[Crowd]:
    with crowd_of(tmp_path, nats) as running:
        yield running
