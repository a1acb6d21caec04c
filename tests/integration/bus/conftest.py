"""A real nats-server per test: it can be killed and started again, with its store or without."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from tunix_rt.bus.connection import connect


class NatsServer:
    """Fits `connect` as its settings."""

    nats_user: str | None = None
    nats_password: SecretStr | None = None

    def __init__(self, store: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.store = store
        self.nats_url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        binary = Path(sysconfig.get_path("scripts")) / "nats-server"
        if not binary.exists():
            binary = Path(sys.executable).with_name("nats-server")
        self._process = subprocess.Popen(
            [
                str(binary),
                "--jetstream",
                "--store_dir",
                str(self.store),
                "--port",
                str(self.port),
                "--addr",
                "127.0.0.1",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            try:
                client = await nats.connect(
                    self.nats_url, allow_reconnect=False, reconnect_time_wait=0.02, connect_timeout=1, error_cb=_ignore
                )
            except (OSError, nats.errors.Error):
                assert self._process.poll() is None, "nats-server did not start"
                await asyncio.sleep(0.05)
            else:
                await client.jetstream().account_info()
                await client.close()
                return
        raise AssertionError("nats-server did not answer within 5 s")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def forget_everything(self) -> None:
        shutil.rmtree(self.store)

    def stop(self) -> None:
        if self._process is not None:
            self.kill()


async def _ignore(_error: Exception) -> None:
    """Refused connections are expected while the server starts."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    running = NatsServer(tmp_path / "jetstream")
    await running.start()
    yield running
    running.stop()


@pytest.fixture
async def client(server: NatsServer) -> AsyncIterator[Client]:
    connection = await connect(server, name="test")
    yield connection
    await connection.close()
