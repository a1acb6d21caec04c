"""Three NATS servers, configured as for Kubernetes: any of them may die, and work goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.chaos.audit import Tables
from tests.chaos.crowd import Crowd, ask, until
from tests.fixtures.guarded_nats import As
from tests.fixtures.registry_process import registry_process

from tunix_rt.bus.server_config import ServerCluster, ServerPlace, configuration, make_credentials, write_private
from tunix_rt.bus.topology import CMD_STREAM, EVT_STREAM, UNREACHABLE
from tunix_rt.bus.users import bus_users
from tunix_rt.local.nats_server import find_binary, is_ready
from tunix_rt.local.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
NODES = ("nats-0", "nats-1", "nats-2")


class Cluster:
    """Three servers on this machine; `kill` and `start` are of one."""

    def __init__(self, home: Path) -> None:
        self._home, self.secrets = home, home / "secrets"
        self._clients, self._monitors, routes = (free_ports(NODES) for _ in range(3))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.nats_url = ",".join(f"nats://127.0.0.1:{self._clients[node]}" for node in NODES)
        users = bus_users()
        credentials = make_credentials(self.secrets, users)
        others = tuple(f"127.0.0.1:{routes[node]}" for node in NODES)
        for node in NODES:
            place = ServerPlace(
                f"127.0.0.1:{self._clients[node]}",
                str(home / node),
                monitor=f"127.0.0.1:{self._monitors[node]}",
                name="$POD_NAME",
                cluster=ServerCluster(f"127.0.0.1:{routes[node]}", others, "of-the-cluster"),
            )
            write_private(home / f"{node}.conf", configuration(place, users, credentials))

    def start(self, node: str) -> None:
        with (self._home / f"{node}.log").open("ab") as log:
            self._processes[node] = subprocess.Popen(
                [find_binary(), "-c", str(self._home / f"{node}.conf")],
                env={**os.environ, "POD_NAME": node},
                stdout=log,
                stderr=log,
            )

    def kill(self, node: str) -> None:
        self._processes[node].kill()
        self._processes[node].wait()

    def ready(self) -> bool:
        return all(is_ready(self._monitors[node]) for node in NODES)

    def seed_path(self, user: str) -> Path:
        return self.secrets / user / "nats.seed"

    def replicas(self, stream: str) -> tuple[str, int]:
        """The server that leads a stream, and how many follow it up to date; nobody while it is being decided."""

        registry = As(self.nats_url, nats_seed=SecretStr(self.seed_path("registry").read_text()))
        try:
            found = ask(registry, lambda js: js.stream_info(stream)).cluster
        except UNREACHABLE:
            return "", 0
        if found is None or not found.leader:
            return "", 0
        return found.leader, sum(peer.current or False for peer in found.replicas or ())


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path)
    for node in NODES:
        running.start(node)
    try:
        until("a cluster", running.ready, 60)
        yield running
    finally:
        for node in NODES:
            running.kill(node)


@pytest.mark.fault("NATS cluster: each of three servers is killed once")
def test_any_server_may_die(cluster: Cluster, tmp_path: Path, recovered: Callable[[float], None]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    settings = {"TUNIX_RT_NATS_SEED_FILE": str(cluster.seed_path("registry")), "TUNIX_RT_NATS_REPLICAS": "3"}
    with registry_process(home, cluster, **settings) as registry:
        crowd = Crowd(registry, Tables(str(home / "registry.sqlite")))
        try:
            crowd.trainer(TUNIX_RT_NATS_SEED_FILE=str(cluster.seed_path("trainer")))
            with crowd.clients.calling():
                crowd.until_more_end()
                slowest = 0.0
                for _ in NODES:
                    until("a whole cluster", lambda: cluster.replicas(CMD_STREAM)[1] == 2, 60)
                    leader, _ = cluster.replicas(CMD_STREAM)
                    cluster.kill(leader)
                    slowest = max(slowest, crowd.until_more_end())
                    cluster.start(leader)
                recovered(slowest)
            crowd.settle()
        finally:
            crowd.close()
    until("a whole cluster", lambda: cluster.replicas(EVT_STREAM)[1] == 2, 60)
