"""Services of the last release and of today work together while each is replaced in turn, under load."""

from __future__ import annotations

import io
import signal
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.chaos.audit import Tables
from tests.chaos.crowd import REPOSITORY, Crowd
from tests.fixtures.nats import NatsServer
from tests.fixtures.registry_process import registry_process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
LAST_RELEASE = "ca21a28b854ac3e44311d2af96f183b4c04c4e0b"


@pytest.fixture
def last_release(tmp_path: Path) -> dict[str, str]:
    """The environment in which its code runs instead of today's."""
    archive = subprocess.run(
        ["git", "archive", LAST_RELEASE, "services"], cwd=REPOSITORY, capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip("this clone does not have the last release in its history")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
        packed.extractall(tmp_path / "last", filter="data")
    return {"PYTHONPATH": str(tmp_path / "last" / "services")}


@pytest.mark.fault("rolling restart: from the last release to today's")
def test_each_service_is_replaced_in_turn(
    last_release: dict[str, str], tmp_path: Path, nats: NatsServer, recovered: Callable[[float], None]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with registry_process(home, nats, **last_release) as registry:
        crowd = Crowd(registry, Tables(str(home / "registry.sqlite")))
        try:
            former = [crowd.trainer(**last_release) for _ in range(2)]
            with crowd.clients.calling():
                crowd.until_more_end()
                ahead = crowd.trainer()  # a worker of today with a registry of the last release
                for trainer in former:
                    trainer.send_signal(signal.SIGTERM)
                    assert trainer.wait(60) == 0
                crowd.until_more_end()
                former = [crowd.trainer(**last_release)]
                registry.signal(signal.SIGTERM)
                registry.environment = {}
                registry.start()
                recovered(crowd.until_more_end(1))
                ahead.send_signal(signal.SIGTERM)
                assert ahead.wait(60) == 0
                crowd.until_more_end()  # a worker of the last release with a registry of today
                crowd.trainer()
                former[0].send_signal(signal.SIGTERM)
                assert former[0].wait(60) == 0
                crowd.until_more_end()
            crowd.settle()
        finally:
            crowd.close()
