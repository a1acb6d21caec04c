"""Nothing is served open, and no token leaves this machine in plain text, unless TUNIX_RT_INSECURE=yes says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.fixtures.guarded_nats import As
from tests.fixtures.tls import certificates, tls_of

from tunix_rt.bus.connection import connect
from tunix_rt.client import TunixClient
from tunix_rt.errors import FailedPrecondition
from tunix_rt.observability.logs import configure_logging, get_logger, protect
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.rpc.channel import open_channel, open_sync_channel
from tunix_rt.rpc.settings import TlsSettings
from tunix_rt.rpc.tls import is_loopback, refuse_clear_text, refuse_open_server, server_context

TOKEN = "a-token-of-more-than-128-bit-for-this-test"
CLI = [sys.executable, "-m", "tunix_rt.cli.main"]


def started(home: Path, service: str = "evaluator", **environment: str) -> subprocess.CompletedProcess[str]:
    """How a service ends that does not start; it is killed if it serves for 5 s."""
    own = {"TUNIX_RT_HOME": str(home), "TUNIX_RT_TOKEN": TOKEN, "TUNIX_RT_LISTEN": "127.0.0.1:0"}
    program = (
        f"import signal; signal.alarm(20); import runpy; runpy.run_module('tunix_rt.{service}', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **own, **environment}, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"TUNIX_RT_LISTEN": "0.0.0.0:0"}, "0.0.0.0:0 would be served without TLS"),
        (
            {"TUNIX_RT_LISTEN": "[::]:0", "TUNIX_RT_AUTH": "off"},
            "would be served without TLS and without authentication",
        ),
        ({"TUNIX_RT_TLS_CA_FILE": "CA"}, "TUNIX_RT_TLS_CA_FILE is set without TUNIX_RT_TLS_CERT_FILE"),
        ({"TUNIX_RT_METRICS_HOST": "0.0.0.0", "TUNIX_RT_METRICS_PORT": "9"}, "0.0.0.0:9 would be served without TLS"),
        ({"TUNIX_RT_REGISTRY_ADDRESS": "registry:7700"}, "the bearer token would go to registry:7700 in plain text"),
        ({"TUNIX_RT_NATS_URL": "nats://nats:4222"}, "NATS would go to nats:4222 in plain text"),
    ],
    ids=["plain", "no auth", "CA without certificate", "metrics", "token in clear", "NATS in clear"],
)
def test_a_service_that_would_be_open_does_not_start_and_says_why(
    tmp_path: Path, environment: dict[str, str], told: str
) -> None:
    if "TUNIX_RT_TLS_CA_FILE" in environment:
        environment = {"TUNIX_RT_TLS_CA_FILE": str(certificates(tmp_path / "secrets") / "ca.pem")}
    done = started(tmp_path, **environment)
    assert done.returncode == 1, done.stderr[-500:]
    assert told in done.stderr


@pytest.mark.parametrize("address", ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "registry:7700", "example.org:443", ":1"])
def test_addresses_beyond_this_machine_need_tls_and_authentication(address: str, tmp_path: Path) -> None:
    plain = TlsSettings(cert_file=None, ca_file=None, insecure=False)
    secured = tls_of(certificates(tmp_path), "registry")
    assert not is_loopback(address)
    for tls, auth in ((plain, True), (plain, False), (secured, False)):
        with pytest.raises(FailedPrecondition, match=r"TLS|authentication"):
            refuse_open_server(address, tls, auth=auth)
    assert refuse_open_server(address, secured, auth=True) is False
    assert refuse_open_server(address, TlsSettings(insecure=True), auth=False) is True  # with a warning
    with pytest.raises(FailedPrecondition, match="in plain text"):
        refuse_clear_text(address, "the token", plain)
    refuse_clear_text(address, "the token", TlsSettings(insecure=True))


@pytest.mark.parametrize("address", ["127.0.0.1:7700", "127.8.8.8:1", "localhost:7700", "[::1]:1", "unix:/run/x"])
def test_this_machine_needs_neither(address: str) -> None:
    plain = TlsSettings(cert_file=None, ca_file=None, insecure=False)
    assert is_loopback(address)
    assert refuse_open_server(address, plain, auth=False) is False
    refuse_clear_text(address, "the token", plain)


def test_a_ca_without_a_certificate_serves_nothing(tmp_path: Path) -> None:
    ca = certificates(tmp_path) / "ca.pem"
    with pytest.raises(FailedPrecondition, match="plain text"):
        server_context(TlsSettings(ca_file=ca))


async def test_no_client_sends_a_token_in_clear_to_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FailedPrecondition, match="bearer token"):
        open_channel("registry.example.org:7700", token=TOKEN)
    with pytest.raises(FailedPrecondition, match="bearer token"):
        open_sync_channel("192.0.2.1:7700", token=TOKEN)
    with TunixClient("192.0.2.1:7700", TOKEN) as client, pytest.raises(FailedPrecondition, match="bearer token"):
        client.runs.get("run-1")
    seeded = As("nats://192.0.2.1:4222", nats_user="reader", nats_password=SecretStr("not-in-clear"))
    with pytest.raises(FailedPrecondition, match="NATS"):
        await connect(seeded)
    done = subprocess.run(
        [*CLI, "--address", "192.0.2.1:7700", "runs", "list"],
        env={**os.environ, "TUNIX_RT_TOKEN": TOKEN},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "in plain text" in done.stderr
    monkeypatch.setenv("TUNIX_RT_INSECURE", "yes")
    await open_channel("registry.example.org:7700", token=TOKEN).close()


def test_secrets_come_from_files_and_are_kept_out_of_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = {
        "TUNIX_RT_TOKEN": "token-in-a-file-0123456789",
        "TUNIX_RT_NATS_SEED": "SUAFILE0123456789",
        "TUNIX_RT_NATS_PASSWORD": "password-of-nats",
        "TUNIX_RT_DATABASE_PASSWORD": "password-of-the-database/@:",
    }
    for variable, secret in secrets.items():
        path = tmp_path / variable
        path.write_text(secret + "\n")
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv(f"{variable}_FILE", str(path))
    monkeypatch.setenv("TUNIX_RT_DATABASE_URL", "postgresql+psycopg://tunix@postgres:5432/tunix")
    settings = RegistrySettings()
    assert settings.token_text == secrets["TUNIX_RT_TOKEN"]
    assert settings.nats_seed is not None and settings.nats_seed.get_secret_value() == secrets["TUNIX_RT_NATS_SEED"]
    assert settings.database == "postgresql+psycopg://tunix:password-of-the-database%2F%40%3A@postgres:5432/tunix"
    configure_logging("test")
    protect(*settings.secrets())
    get_logger("test").warning("all of them", told=" ".join(secrets.values()))
    logged = capsys.readouterr().err
    assert "all of them" in logged
    assert not [variable for variable, secret in secrets.items() if secret in logged]

    (tmp_path / "TUNIX_RT_TOKEN").unlink()
    with pytest.raises(FailedPrecondition, match="TUNIX_RT_TOKEN_FILE"):
        RegistrySettings()
