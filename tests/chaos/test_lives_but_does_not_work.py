"""What lives but does not work is noticed, said and started again: a process that stands still, a NATS without a store.

The patience is shortened from 30 s to 5 s.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.chaos.audit import Tables, unpublished
from tests.fixtures.guarded_nats import As
from tests.fixtures.small_disks import fill, small_disk
from typer.testing import CliRunner

from tunix_rt.bus.connection import connect
from tunix_rt.bus.topology import UNREACHABLE
from tunix_rt.cli.main import app
from tunix_rt.client import TunixClient
from tunix_rt.local import LocalPlatform
from tunix_rt.local.health import nats_confirms
from tunix_rt.local.settings import LocalSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SECONDS = 90.0


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[LocalPlatform]:
    home = tmp_path / "home"
    home.mkdir()
    settings = LocalSettings(patience_seconds=5)
    with LocalPlatform(home, ports="free", service_counts={"registry": 1}, settings=settings) as running:
        yield running


def until(happened: Callable[[], bool]) -> float:
    begin = time.monotonic()
    while not happened():
        assert time.monotonic() - begin < SECONDS
        time.sleep(0.2)
    return time.monotonic() - begin


def status(platform: LocalPlatform) -> tuple[int, str]:
    answer = CliRunner().invoke(app, ["--home", str(platform.home), "status"])
    return answer.exit_code, answer.output


def train(client: TunixClient, dataset_id: str, name: str) -> str:
    """A run that nobody carries out: its facts and its command have to be published."""
    return client.runs.create(base_model="preset://tiny", dataset_id=dataset_id, display_name=name).id


def waiting(platform: LocalPlatform) -> int:
    """How much is not published yet."""
    return unpublished(Tables(str(platform.home / "registry.sqlite")))


async def publish_much(platform: LocalPlatform) -> None:
    """Publish facts of 900 kB until one is not confirmed."""
    seed = SecretStr(platform.nats_seed_path("registry").read_text().strip())
    client = await connect(As(platform.nats_url, nats_seed=seed), name="filler")
    try:
        for number in range(200):
            await client.jetstream().publish(f"tunix.evt.filler.{number}", b" " * 900_000, timeout=5)
    except UNREACHABLE:
        return
    finally:
        await client.close()
    raise AssertionError("a store that is gone took 180 MB")


@pytest.mark.fault("stopped for good:")
@pytest.mark.parametrize("part", ["registry", "nats"])
def test_a_part_that_stands_still_is_started_again(platform: LocalPlatform, part: str) -> None:
    pid = platform.pid(part)
    assert pid is not None
    time.sleep(5)  # it has to have been up for as long as it may be silent
    os.kill(pid, signal.SIGSTOP)
    code, shown = status(platform)
    assert code == 1 and part in shown.partition("not well")[2]
    until(lambda: platform.restarts(part) == 1)
    platform.wait_until_healthy()
    assert status(platform)[0] == 0


@pytest.mark.fault("NATS: its store is deleted under it")
def test_a_nats_whose_store_is_gone_is_noticed_and_started_again(platform: LocalPlatform) -> None:
    with TunixClient(home=platform.home) as client:
        dataset = client.datasets.build("arith-v1", size=20).id
        train(client, dataset, "before")
        until(lambda: waiting(platform) == 0)
        shutil.rmtree(platform.home / "nats" / "jetstream")
        train(client, dataset, "after")
        asyncio.run(publish_much(platform))  # it notices when a file is full and the next one cannot be made
        train(client, dataset, "later")
        until(lambda: not nats_confirms(platform.addresses))
        until(lambda: platform.restarts("nats") == 1)
        until(lambda: waiting(platform) == 0 and nats_confirms(platform.addresses))
        assert status(platform)[0] == 0


@pytest.fixture
def nats_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "home" / "nats", 24) as place:
        yield place


@pytest.mark.fault("NATS: disk full, then free")
def test_a_nats_whose_disk_was_full_works_again_when_there_is_room(nats_disk: Path) -> None:
    settings = LocalSettings(patience_seconds=5)
    home = nats_disk.parent
    with (
        LocalPlatform(home, ports="free", service_counts={"registry": 1}, settings=settings) as platform,
        TunixClient(home=home) as client,
    ):
        dataset = client.datasets.build("arith-v1", size=20).id
        filler = fill(nats_disk)
        for number in range(200):
            train(client, dataset, f"run-{number}")
        until(lambda: not nats_confirms(platform.addresses))
        assert status(platform)[0] == 1
        filler.unlink()
        until(lambda: waiting(platform) == 0)
        until(lambda: status(platform)[0] == 0)
