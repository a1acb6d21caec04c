"""The platform with real processes: nats-server from its wheel and the registry, which starts without JAX."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import nats
import pytest
from pydantic import SecretStr

from tunix_rt.bus.connection import connect
from tunix_rt.client import JobState, TunixClient
from tunix_rt.client.platform_file import read_platform_file
from tunix_rt.errors import FailedPrecondition
from tunix_rt.local import LocalPlatform, PlatformError
from tunix_rt.rpc.settings import TlsSettings

REGISTRY = {"registry": 1}


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pid_of(platform: LocalPlatform, part: str) -> int:
    until(lambda: platform.pid(part) is not None)
    pid = platform.pid(part)
    assert pid is not None
    return pid


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path_factory.mktemp("home"), ports="free", service_counts=REGISTRY) as running:
        yield running


def test_a_platform_tells_its_clients_where_it_is_and_keeps_its_secrets(platform: LocalPlatform) -> None:
    file = read_platform_file(platform.home)
    assert file is not None
    assert file.state == "ready"
    assert dict(file.addresses) == platform.addresses
    assert dict(file.pids) == {"nats": platform.pid("nats"), "registry": platform.pid("registry")}
    assert file.token() == platform.token
    text = (platform.home / "platform.json").read_text()
    assert platform.token not in text
    assert platform.nats_password not in text
    for secret in ("token", "nats-server.conf", "secrets/reader/nats.password", "secrets/registry/nats.seed"):
        assert stat.S_IMODE((platform.home / secret).stat().st_mode) == 0o600
    for log in (platform.home / "logs").iterdir():
        assert platform.token not in log.read_text()
        assert platform.nats_password not in log.read_text()


def test_secrets_are_on_no_command_line(platform: LocalPlatform) -> None:
    for part in platform.parts:
        command = Path(f"/proc/{pid_of(platform, part)}/cmdline").read_bytes().decode()
        assert platform.token not in command
        assert platform.nats_password not in command


def test_a_second_start_on_the_same_home_is_refused_and_harms_nothing(platform: LocalPlatform) -> None:
    before = {part: platform.pid(part) for part in platform.parts}
    with pytest.raises(FailedPrecondition, match="already running"):
        LocalPlatform(platform.home, ports="free", service_counts=REGISTRY).start()
    assert {part: platform.pid(part) for part in platform.parts} == before
    assert platform.health("registry") == "SERVING"
    file = read_platform_file(platform.home)
    assert file is not None
    assert file.state == "ready"


def test_a_killed_registry_comes_back_on_its_address_with_its_rows(platform: LocalPlatform) -> None:
    with TunixClient(home=platform.home) as client:
        dataset = client.datasets.build("arith-v1", size=20, seed=1)
        address, before = platform.addresses["registry"], platform.restarts("registry")
        os.kill(pid_of(platform, "registry"), signal.SIGKILL)
        assert client.datasets.get(dataset.id).artifact.digest == dataset.artifact.digest
    assert platform.addresses["registry"] == address
    assert platform.restarts("registry") == before + 1


def test_a_watch_outlives_the_registry_it_watches(platform: LocalPlatform) -> None:
    with TunixClient(home=platform.home) as client:
        dataset = client.datasets.build("arith-v1", size=20, seed=1)
        run = client.runs.create(base_model="preset://tiny", dataset_id=dataset.id)
        states = client.runs.watch(run.id)
        assert next(states).id == run.id
        os.kill(pid_of(platform, "registry"), signal.SIGKILL)
        client.runs.cancel(run.id)
        assert list(states)[-1].state is client.runs.get(run.id).state is JobState.CANCELLED


def test_a_killed_nats_server_comes_back_with_what_it_stored(platform: LocalPlatform) -> None:
    registry = SimpleNamespace(
        nats_url=platform.nats_url,
        nats_seed=SecretStr(platform.nats_seed_path("registry").read_text()),
        nats_user=None,
        nats_password=None,
        tls=TlsSettings(),
    )

    async def store() -> None:
        connection = await connect(registry)
        await connection.jetstream().publish("tunix.evt.kept.one.1", b"{}")
        await connection.close()

    async def count() -> int:
        connection = await connect(registry)
        found = await connection.jetstream().stream_info("TUNIX_EVT", subjects_filter="tunix.evt.kept.>")
        await connection.close()
        return sum((found.state.subjects or {}).values())

    asyncio.run(store())
    url, before = platform.nats_url, platform.restarts("nats")
    os.kill(pid_of(platform, "nats"), signal.SIGKILL)
    until(lambda: platform.restarts("nats") == before + 1)
    platform.wait_until_healthy("nats")
    assert platform.nats_url == url
    assert asyncio.run(count()) == 1


def test_nats_refuses_strangers(platform: LocalPlatform) -> None:
    async def try_to_connect(**credentials: str) -> None:
        await nats.connect(platform.nats_url, allow_reconnect=False, connect_timeout=2, **credentials)

    for credentials in ({}, {"user": "tunix", "password": platform.nats_password}, {"user": "reader", "password": "x"}):
        with pytest.raises(nats.errors.Error, match="Authorization"):
            asyncio.run(try_to_connect(**credentials))


def test_stopping_leaves_no_process_and_no_file_and_a_new_start_finds_the_rows(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path, ports="free", service_counts=REGISTRY) as first:
        pids = [pid_of(first, part) for part in first.parts]
        token = first.token
        with TunixClient(home=tmp_path) as client:
            dataset = client.datasets.build("golden-v2")
    assert not any(is_running(pid) for pid in pids)
    assert not (tmp_path / "platform.json").exists()
    with LocalPlatform(tmp_path, ports="free", service_counts=REGISTRY) as second:
        assert second.token == token
        with TunixClient(home=tmp_path) as client:
            assert client.datasets.get(dataset.id) == dataset


def test_a_part_that_cannot_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = {"TUNIX_RT_DATABASE_URL": "sqlite:////nowhere/at/all.sqlite"}
    platform = LocalPlatform(tmp_path, ports="free", service_counts=REGISTRY, environment=broken)
    with pytest.raises(PlatformError, match=r"(?s)registry keeps ending \(exit 1\).*registry\.log ends with:.*\w"):
        platform.start()
    assert not any(is_running(pid) for part in platform.parts if (pid := platform.pid(part)))
    with LocalPlatform(tmp_path, ports="free", service_counts={}) as repaired:
        assert repaired.health("nats") == "SERVING"


def test_a_wanted_port_in_use_is_named(platform: LocalPlatform, tmp_path: Path) -> None:
    port = int(platform.addresses["nats"].rpartition(":")[2])
    with pytest.raises(FailedPrecondition, match=rf"{port} \(nats\).*--free-ports"):
        LocalPlatform(tmp_path, ports={"nats": port}, service_counts={}).start()


def run_cli(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunix_rt.cli.main", "--home", str(home), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_up_detached_status_and_down(tmp_path: Path) -> None:
    up = run_cli(tmp_path, "up", "--detach", "--free-ports", "--services", "registry", "--json")
    assert up.returncode == 0, up.stderr
    file = json.loads(up.stdout)
    try:
        assert file["state"] == "ready"
        status = run_cli(tmp_path, "status", "--json")
        assert status.returncode == 0, status.stderr
        document = json.loads(status.stdout)
        assert {name: part["health"] for name, part in document["parts"].items()} == {
            "nats": "SERVING",
            "registry": "SERVING",
        }
        assert document["jobs"] == {"runs": {}, "evaluations": {}, "sweeps": {}}
        again = run_cli(tmp_path, "up", "--detach", "--free-ports", "--services", "registry")
        assert again.returncode == 1
        assert "already running" in again.stderr
    finally:
        down = run_cli(tmp_path, "down", "--json")
    assert json.loads(down.stdout)["stopped_pid"] == file["supervisor_pid"]
    assert not any(is_running(pid) for pid in file["pids"].values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_in_the_foreground_stops_in_order_when_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    arguments = ["--home", str(tmp_path), "up", "--free-ports", "--services", "nats", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "tunix_rt.cli.main", *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        file = json.loads(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(60) == 0
    assert not any(is_running(pid) for pid in file["pids"].values())
    assert not (tmp_path / "platform.json").exists()


def test_a_signal_while_starting_undoes_the_start(tmp_path: Path) -> None:
    arguments = ["--home", str(tmp_path), "up", "--free-ports", "--services", "nats"]
    with subprocess.Popen(
        [sys.executable, "-m", "tunix_rt.cli.main", *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        until(lambda: (tmp_path / "platform.json").exists())
        file = read_platform_file(tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert file is not None
    assert file.state == "starting"
    until(lambda: not any(is_running(pid) for pid in file.pids.values()))
    assert not (tmp_path / "platform.json").exists()


@pytest.mark.parametrize("content", ["{", '{"of": "the next version"}'])
def test_up_starts_over_a_file_that_was_left_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / "platform.json").write_text(content)
    up = run_cli(tmp_path, "up", "--detach", "--free-ports", "--services", "nats", "--json")
    assert up.returncode == 0, up.stderr
    assert run_cli(tmp_path, "status").returncode == 0
    assert run_cli(tmp_path, "down").returncode == 0


def test_nothing_outlives_a_killed_supervisor_and_the_home_can_be_started_again(tmp_path: Path) -> None:
    up = run_cli(tmp_path, "up", "--detach", "--free-ports", "--services", "nats", "--json")
    assert up.returncode == 0, up.stderr
    file = json.loads(up.stdout)
    os.kill(file["supervisor_pid"], signal.SIGKILL)
    until(lambda: not any(is_running(pid) for pid in file["pids"].values()))
    assert run_cli(tmp_path, "status").returncode == 1
    with LocalPlatform(tmp_path, ports="free", service_counts={}) as platform:
        assert platform.health("nats") == "SERVING"


def test_an_inferencer_serves_http_where_status_says(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path, ports="free", service_counts={"inferencer": 1}) as platform:
        command = [sys.executable, "-m", "tunix_rt.cli.main", "status", "--home", str(tmp_path), "--json"]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        parts = json.loads(told.stdout)["parts"]
        assert sorted(parts) == ["inferencer", "nats"]
        url = parts["inferencer"]["http"]
        assert {"inferencer": url} == platform.http_addresses
        request = urllib.request.Request(f"{url}/models", headers={"Authorization": f"Bearer {platform.token}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.load(answer) == {"object": "list", "data": []}
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/models", timeout=20)
