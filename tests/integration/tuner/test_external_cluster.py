"""A sweep on a Ray cluster that runs already, and that asks for Ray's token."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tunix_rt.bus import Done
from tunix_rt.local.ports import free_ports
from tunix_rt.tuner.driver_process import kill_session
from tunix_rt.v1 import common_pb2

from .test_tune_command import command, handling

if TYPE_CHECKING:
    from .conftest import FakeRegistry

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[tuple[str, dict[str, str]]]:
    """A head node: its address, and the environment of those who may come in."""
    ports = free_ports(["head", "client"])
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    # Short, for the sockets in it.
    directory = tempfile.mkdtemp(prefix="t", dir="/tmp")
    log = Path(directory, "head.log")
    with log.open("wb") as output:
        head = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={ports['head']}"),
                *("--num-cpus=1", "--include-dashboard=false", "--object-store-memory=80000000"),
                *(f"--temp-dir={directory}", f"--ray-client-server-port={ports['client']}"),
            ],
            env={**os.environ, **auth},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield f"127.0.0.1:{ports['head']}", auth
    finally:
        kill_session(head.pid)
        head.wait()
        shutil.rmtree(directory, ignore_errors=True)


async def _started(address: str, head_seconds: float = 90) -> None:
    host, port = address.split(":")
    async with asyncio.timeout(head_seconds):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionError:
                await asyncio.sleep(0.2)
                continue
            writer.close()
            return


async def test_a_sweep_runs_on_a_cluster_and_says_what_is_missing_to_enter_it(
    registry: FakeRegistry, cluster: tuple[str, dict[str, str]]
) -> None:
    address, auth = cluster
    await _started(address)
    for environment, state, message in [
        ({"RAY_AUTH_MODE": "disabled"}, common_pb2.JOB_STATE_FAILED, "RAY_AUTH_TOKEN"),
        (auth, common_pb2.JOB_STATE_SUCCEEDED, ""),
    ]:
        async with handling(registry, ray_address=address, environment=environment) as handler:
            assert await asyncio.wait_for(handler(command()), 180) == Done()
        assert registry.completion is not None
        assert (registry.completion.state, message in registry.completion.message) == (state, True)
    assert sorted(registry.trials) == [0, 1, 2, 3, 4]
