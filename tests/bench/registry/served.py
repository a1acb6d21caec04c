"""The two servers as processes: our registry with its nats-server, and MLflow's tracking server, on free ports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

from tunix_rt.local import nats_server
from tunix_rt.local.ports import free_ports
from tunix_rt.rpc.channel import open_sync_channel

TOKEN = "token-of-the-benchmark"
_START_SECONDS = 120.0


@contextmanager
def registry(database_url: str, home: Path) -> Iterator[grpc.Channel]:
    """A fresh registry on the database, migrated, with auth, relay and reaper; a channel of an admin."""
    ports = free_ports(("nats", "monitor", "registry"))
    config = home / "nats.conf"
    nats_server.write_config(
        config,
        port=ports["nats"],
        monitor_port=ports["monitor"],
        store=home / "jetstream",
        secrets=home / "secrets",
        pools=["cpu"],
    )
    address = f"127.0.0.1:{ports['registry']}"
    settings = {
        "TUNIX_RT_HOME": str(home),
        "TUNIX_RT_LISTEN": address,
        "TUNIX_RT_NATS_URL": f"nats://127.0.0.1:{ports['nats']}",
        "TUNIX_RT_NATS_SEED_FILE": str(home / "secrets" / "registry" / "nats.seed"),
        "TUNIX_RT_TOKEN": TOKEN,
        "TUNIX_RT_DATABASE_URL": database_url,
        "TUNIX_RT_AUTO_MIGRATE": "true",
        # Nobody beats the heart of the runs whose metrics are written here.
        "TUNIX_RT_LEASE_SECONDS": "3600",
    }
    nats = [nats_server.find_binary(), "-c", str(config)]
    with (
        _process(nats, home / "nats.log", {}, lambda: nats_server.is_ready(ports["monitor"])),
        open_sync_channel(address, token=TOKEN) as channel,
        _process(
            [sys.executable, "-m", "tunix_rt.registry"], home / "registry.log", settings, lambda: _answers(channel)
        ),
    ):
        yield channel


@contextmanager
def mlflow(python: str, database_url: str, home: Path) -> Iterator[int]:
    """A fresh MLflow tracking server with its default workers; its port."""
    port = free_ports(("mlflow",))["mlflow"]
    database_url = database_url.replace("postgresql:", "postgresql+psycopg2:")
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", database_url, "--default-artifact-root", str(home / "mlruns")]
    settings = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # Runners of background jobs, which nothing here asks for.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with _process(command, home / "mlflow.log", settings, lambda: _is_healthy(port)):
        yield port


@contextmanager
def _process(
    command: Sequence[str], log: Path, settings: Mapping[str, str], ready: Callable[[], bool]
) -> Iterator[None]:
    """Runs ``command`` in a process group of its own until the block ends. Raises `SystemExit` with the log's end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=os.environ | settings, stdout=output, stderr=output, cwd=log.parent, start_new_session=True
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[:3]} does not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers(channel: grpc.Channel) -> bool:
    try:
        grpc.channel_ready_future(channel).result(timeout=0.5)
    except grpc.FutureTimeoutError:
        return False
    return True


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
