"""Where a client connects to: arguments, environment, local platform, defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunix_rt.client.connection import ClientSettings, Connection, discover
from tunix_rt.client.platform_file import PlatformFile, write_platform_file
from tunix_rt.client.shipped import evalset_path
from tunix_rt.errors import FailedPrecondition, NotFound


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No TUNIX_RT_* variable but an empty home."""
    for name in ("REGISTRY_ADDRESS", "INFERENCER_ADDRESS", "TUNER_ADDRESS", "TOKEN"):
        monkeypatch.delenv(f"TUNIX_RT_{name}", raising=False)
    monkeypatch.setenv("TUNIX_RT_HOME", str(tmp_path / "empty"))
    return monkeypatch


def peers(connection: Connection) -> list[str]:
    return [connection.address_of(peer) for peer in ("registry", "inferencer", "tuner")]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("from-file\n")
    addresses = {"registry": "file:1", "inferencer": "file:2", "tuner": "file:4"}
    write_platform_file(
        tmp_path, PlatformFile("ready", 1, str(tmp_path / "token"), "nats://x", "u", "/p", "now", addresses)
    )
    return tmp_path


def test_without_anything_the_documented_ports_are_used(bare: pytest.MonkeyPatch) -> None:
    connection = discover()
    assert peers(connection) == ["127.0.0.1:7700", "127.0.0.1:7702", "127.0.0.1:7704"]
    assert connection.token is None


def test_a_running_platform_in_the_home_of_the_environment_is_found(bare: pytest.MonkeyPatch, home: Path) -> None:
    bare.setenv("TUNIX_RT_HOME", str(home))
    connection = discover()
    assert peers(connection) == ["file:1", "file:2", "file:4"]
    assert connection.token == "from-file"


def test_the_environment_beats_the_platform_and_arguments_beat_both(bare: pytest.MonkeyPatch, home: Path) -> None:
    bare.setenv("TUNIX_RT_HOME", str(home))
    bare.setenv("TUNIX_RT_REGISTRY_ADDRESS", "env:1")
    bare.setenv("TUNIX_RT_TOKEN", "from-env")
    connection = discover()
    assert peers(connection) == ["env:1", "file:2", "file:4"]
    assert connection.token == "from-env"
    bare.setenv("TUNIX_RT_TUNER_ADDRESS", "env:4")
    assert peers(discover()) == ["env:1", "file:2", "env:4"]
    connection = discover("arg:1", "from-arg", inferencer_address="arg:2", tuner_address="arg:4")
    assert peers(connection) == ["arg:1", "arg:2", "arg:4"]
    assert connection.token == "from-arg"


def test_a_home_named_outright_beats_the_environment(bare: pytest.MonkeyPatch, home: Path) -> None:
    bare.setenv("TUNIX_RT_REGISTRY_ADDRESS", "env:1")
    bare.setenv("TUNIX_RT_TOKEN", "from-env")
    connection = discover(home=home)
    assert (connection.registry, connection.token) == ("file:1", "from-file")


def test_a_token_is_not_shown_by_repr() -> None:
    assert "s3cret" not in repr(discover("a:1", "s3cret"))
    assert "s3cret" not in repr(ClientSettings(token="s3cret"))  # type: ignore[arg-type]


def test_a_platform_file_that_cannot_be_read_is_named(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "platform.json").write_text("{")
    with pytest.raises(FailedPrecondition, match=r"platform\.json"):
        discover(home=tmp_path)


def test_an_evalset_is_a_file_or_the_key_of_a_shipped_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("{}\n")
    assert evalset_path(file) == file
    with pytest.raises(NotFound, match="no_such_set is neither a file nor an evalset that ships"):
        evalset_path("no_such_set")
