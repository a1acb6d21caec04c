"""The home: secrets, lock, platform file, ports."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunix_rt.bus.keys import public_key
from tunix_rt.cli.main import app
from tunix_rt.client.platform_file import PlatformFile, read_platform_file, write_platform_file
from tunix_rt.errors import FailedPrecondition, InvalidInput
from tunix_rt.local import services
from tunix_rt.local.home import Home, HomeLock, lock_holder
from tunix_rt.local.nats_server import write_config
from tunix_rt.local.ports import DEFAULT_PORTS, choose_ports, free_ports
from tunix_rt.rpc.secret_files import read_or_create_secret


def a_file(**over: object) -> PlatformFile:
    values: dict[str, object] = {
        "state": "ready",
        "supervisor_pid": 7,
        "token_path": "/t",
        "nats_url": "nats://127.0.0.1:1",
        "nats_user": "u",
        "nats_password_path": "/p",
        "start_time": "2026-01-01T00:00:00+00:00",
        "addresses": {"registry": "127.0.0.1:2"},
        "pids": {"registry": 8},
        "restarts": {"registry": 0},
    }
    return PlatformFile(**(values | over))  # type: ignore[arg-type]


def test_a_secret_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "token"
    first = read_or_create_secret(path)
    assert len(first) >= 43  # 32 bytes in base64
    assert read_or_create_secret(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_create_secret(tmp_path / "other") != first


def test_the_nats_configuration_holds_public_keys_and_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "nats.conf"
    path.write_text("old, with a wider mode")
    path.chmod(0o644)
    secrets = tmp_path / "secrets"
    write_config(path, port=1, monitor_port=2, store=tmp_path, secrets=secrets, pools=["cpu", "gpu"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert 'listen: "127.0.0.1:1"' in text and 'http: "127.0.0.1:2"' in text
    for user in ("registry", "trainer", "trainer-gpu", "evaluator", "tuner"):
        seed = secrets / user / "nats.seed"
        assert stat.S_IMODE(seed.stat().st_mode) == 0o600
        assert seed.read_text().strip() not in text
        assert f"nkey: {public_key(seed.read_text())}" in text
    write_config(path, port=1, monitor_port=2, store=tmp_path, secrets=secrets, pools=["cpu", "gpu"])
    assert path.read_text() == text  # keys are made once


def test_directories_of_a_home_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert home.logs.is_dir()


def test_a_second_lock_on_a_home_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    lock = HomeLock(tmp_path)
    lock.acquire()
    assert lock_holder(tmp_path) == os.getpid()
    with pytest.raises(FailedPrecondition, match=rf"already running in .* pid {os.getpid()}.*tunix-rt down"):
        HomeLock(tmp_path).acquire()
    lock.release()
    assert lock_holder(tmp_path) is None
    again = HomeLock(tmp_path)
    again.acquire()
    again.release()


def test_nobody_holds_a_home_that_does_not_exist(tmp_path: Path) -> None:
    assert lock_holder(tmp_path / "nowhere") is None


def test_the_platform_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_platform_file(tmp_path) is None
    write_platform_file(tmp_path, a_file())
    assert read_platform_file(tmp_path) == a_file()
    assert [path.name for path in tmp_path.iterdir()] == ["platform.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff\x00",
        b"[" * 100_000,
        b'{"state": "ready", "since": "the next version"}',
        json.dumps(dataclasses.asdict(a_file()) | {"pids": [], "token_path": 7}).encode(),
    ],
)
def test_a_platform_file_that_is_damaged_or_not_ours_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "platform.json").write_bytes(content)
    with pytest.raises(FailedPrecondition, match=r"platform\.json is damaged"):
        read_platform_file(tmp_path)
    for command in ("status", "runs list"):
        answer = CliRunner().invoke(app, ["--home", str(tmp_path), *command.split()])
        assert answer.exit_code == 1 and "Traceback" not in answer.output


def test_free_ports_are_all_different_and_can_be_bound() -> None:
    ports = free_ports(["a", "b", "c"])
    assert len(set(ports.values())) == 3
    for port in ports.values():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_a_port_in_use_is_refused_by_name_and_all_at_once() -> None:
    with socket.socket() as one, socket.socket() as two:
        for holder in (one, two):
            holder.bind(("127.0.0.1", 0))
            holder.listen()
        taken = {"registry": one.getsockname()[1], "tuner": two.getsockname()[1]}
        with pytest.raises(FailedPrecondition) as caught:
            choose_ports(["registry", "tuner", "nats"], taken)
    for name, port in taken.items():
        assert f"{port} ({name})" in str(caught.value)
    assert "nats" not in str(caught.value)


def test_wanted_ports_are_kept_and_the_rest_is_free() -> None:
    wanted = free_ports(["registry"])
    chosen = choose_ports(["registry", "trainer-2"], wanted)
    assert chosen["registry"] == wanted["registry"]
    assert chosen["trainer-2"] != chosen["registry"]
    assert DEFAULT_PORTS["registry"] == 7700


def test_services_are_counted_and_named() -> None:
    assert services.parse_services([]) == dict.fromkeys(services.SERVICES, 1)
    counts = services.parse_services(["registry", "trainer=2"])
    assert services.process_names(counts) == ["registry", "trainer", "trainer-2"]
    assert services.service_of("trainer-2") == "trainer"
    assert services.parse_services(["nats"]) == {}


def test_every_bad_service_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        services.parse_services(["regsitry", "trainer=0", "tuner", "tuner", "registry=2", "evaluator=x"])
    text = str(caught.value)
    for part in ("'regsitry' is none of", "'trainer=0' must ask", "'tuner' is named twice", "SQLite", "'evaluator=x'"):
        assert part in text


def test_services_of_one_platform_find_each_other(tmp_path: Path) -> None:
    ports = {"nats": 1, "registry": 2, "inferencer": 3, "evaluator": 4}
    environment = services.environment(Home(tmp_path), "evaluator", ports, "cpu")
    assert environment["TUNIX_RT_LISTEN"] == "127.0.0.1:4"
    assert environment["TUNIX_RT_REGISTRY_ADDRESS"] == "127.0.0.1:2"
    assert environment["TUNIX_RT_INFERENCER_ADDRESS"] == "127.0.0.1:3"
    assert environment["TUNIX_RT_NATS_URL"] == "nats://127.0.0.1:1"
    assert environment["TUNIX_RT_TOKEN_FILE"] == f"{tmp_path}/tokens/evaluator"
    assert environment["TUNIX_RT_TOKEN"] == ""
    assert "TUNIX_RT_SERVICE_TOKENS_DIR" not in environment
    assert environment["TUNIX_RT_DATABASE_URL"] == f"sqlite:///{tmp_path}/registry.sqlite"


def test_the_registry_reads_every_service_s_token_and_each_service_its_own(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    services.prepare_tokens(home)
    ports = {"nats": 1, "registry": 2, "inferencer": 3, "trainer": 4, "trainer-2": 5}
    files = {name: services.environment(home, name, ports, "cpu")["TUNIX_RT_TOKEN_FILE"] for name in list(ports)[1:]}
    assert files == {
        "registry": f"{tmp_path}/token",
        "inferencer": f"{tmp_path}/tokens/inferencer",
        "trainer": f"{tmp_path}/tokens/trainer",
        "trainer-2": f"{tmp_path}/tokens/trainer",
    }
    directory = services.environment(home, "registry", ports, "cpu")["TUNIX_RT_SERVICE_TOKENS_DIR"]
    found = {path.name: path.read_text() for path in Path(directory).iterdir()}
    assert sorted(found) == ["evaluator", "inferencer", "trainer", "tuner"]
    assert len(set(found.values())) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in Path(directory).iterdir()} == {0o600}


def test_an_inferencer_without_a_registry_accepts_the_platform_s_token(tmp_path: Path) -> None:
    environment = services.environment(Home(tmp_path), "inferencer", {"nats": 1, "inferencer": 3}, "cpu")
    assert environment["TUNIX_RT_REGISTRY_ADDRESS"] == ""
    assert environment["TUNIX_RT_TOKEN_FILE"] == f"{tmp_path}/token"


def test_only_inferencers_have_a_port_for_http(tmp_path: Path) -> None:
    names = services.process_names({"registry": 1, "inferencer": 2})
    assert [services.http_port_name(name) for name in names] == [None, "inferencer-http", "inferencer-2-http"]
    ports = {"nats": 1, "registry": 2, "inferencer": 3, "inferencer-2": 4, "inferencer-http": 5, "inferencer-2-http": 6}
    addresses = {
        name: services.environment(Home(tmp_path), name, ports, "cpu")["TUNIX_RT_HTTP_LISTEN"] for name in names
    }
    assert addresses == {"registry": "", "inferencer": "127.0.0.1:5", "inferencer-2": "127.0.0.1:6"}
    assert DEFAULT_PORTS["inferencer-http"] == 7705
