"""TLS on everything: gRPC, NATS, metrics, HTTP and health checks; certificates replaced while running."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import nats
import nats.errors
import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr
from tests.fixtures.guarded_nats import As
from tests.fixtures.tls import certificate_file, certificates, environment_of, served_certificate, tls_of

from tunix_rt.bus.connection import connect
from tunix_rt.bus.server_config import main as write_nats_config
from tunix_rt.errors import FailedPrecondition
from tunix_rt.inferencer.http.server import serving_http
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.local.nats_server import find_binary
from tunix_rt.local.ports import free_ports
from tunix_rt.rpc.certificates import init_certificates
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.credentials import peer_certificate_name, server_credentials

TOKEN = "a-token-of-more-than-128-bit-for-this-test"
SERVICES = ("registry", "evaluator")


@dataclass(frozen=True)
class Secured:
    """A platform of processes that speak TLS only, as in containers."""

    secrets: Path
    ports: dict[str, int]
    pids: dict[str, int]

    def seed(self, user: str) -> SecretStr:
        return SecretStr((self.secrets / user / "nats.seed").read_text().strip())


def probe(port: int, secrets: Path, name: str) -> int:
    command = [sys.executable, "-m", "tunix_rt.rpc.probe", f"127.0.0.1:{port}"]
    return subprocess.run(command, env={**os.environ, **environment_of(secrets, name)}, capture_output=True).returncode


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    home = tmp_path_factory.mktemp("secured")
    secrets = certificates(home / "secrets")
    ports = free_ports(["nats", *SERVICES, *(f"{name}-metrics" for name in SERVICES)])
    listen = f"127.0.0.1:{ports['nats']}"
    write_nats_config(
        [str(secrets), "--listen", listen, "--store", str(home / "nats"), "--tls-directory", str(secrets / "nats")]
    )
    config = secrets / "nats" / "nats-server.conf"
    config.write_text(config.read_text().replace("127.0.0.1:8222", f"127.0.0.1:{free_ports(['m'])['m']}"))
    pids: dict[str, int] = {}

    @contextmanager
    def running(name: str, command: list[str], **environment: str) -> Iterator[None]:
        with (home / f"{name}.log").open("w") as log:
            process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=log)
        pids[name] = process.pid
        try:
            yield
        finally:
            process.kill()
            process.wait()

    with ExitStack() as stack:
        stack.enter_context(running("nats", [find_binary(), "-c", str(config)]))
        for name in SERVICES:
            environment = {
                "TUNIX_RT_HOME": str(home / name),
                "TUNIX_RT_LISTEN": f"127.0.0.1:{ports[name]}",
                "TUNIX_RT_METRICS_PORT": str(ports[f"{name}-metrics"]),
                "TUNIX_RT_REGISTRY_ADDRESS": f"localhost:{ports['registry']}",
                "TUNIX_RT_NATS_URL": f"tls://{listen}",
                "TUNIX_RT_NATS_SEED_FILE": str(secrets / name / "nats.seed"),
                "TUNIX_RT_TOKEN": TOKEN,
                "TUNIX_RT_AUTO_MIGRATE": "true",
                **environment_of(secrets, name),
            }
            stack.enter_context(running(name, [sys.executable, "-m", f"tunix_rt.{name}"], **environment))
        deadline = time.monotonic() + 120
        for name in SERVICES:
            while probe(ports[name], secrets, name) != 0:
                assert time.monotonic() < deadline, (home / f"{name}.log").read_text()[-2000:]
                time.sleep(0.2)
        yield Secured(secrets, ports, pids)


def test_health_checks_and_clients_with_a_certificate_are_answered(platform: Secured) -> None:
    """The evaluator is ready only when it has reached NATS and the registry with its own certificate."""
    for name in SERVICES:
        assert probe(platform.ports[name], platform.secrets, "client") == 0
    script = "import sys; from tunix_rt.client import TunixClient; print(len(list(TunixClient().runs.list())))"
    environment = {
        "TUNIX_RT_REGISTRY_ADDRESS": f"localhost:{platform.ports['registry']}",
        "TUNIX_RT_TOKEN": TOKEN,
        **environment_of(platform.secrets, "client"),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_plain_text_is_refused_on_every_port(platform: Secured) -> None:
    for name in SERVICES:
        with grpc.insecure_channel(f"127.0.0.1:{platform.ports[name]}") as channel:
            with pytest.raises(grpc.RpcError) as refused:
                health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(f"http://127.0.0.1:{platform.ports[f'{name}-metrics']}/metrics", timeout=5)
        plain = [sys.executable, "-m", "tunix_rt.rpc.probe", f"127.0.0.1:{platform.ports[name]}"]
        assert subprocess.run(plain, capture_output=True).returncode == 1
    greeting = raw_nats(platform, b'CONNECT {"user":"reader","pass":"x"}\r\nPING\r\n')
    assert b"tls_required" in greeting and b"PONG" not in greeting


def raw_nats(platform: Secured, line: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", platform.ports["nats"]), timeout=5) as connection:
        connection.sendall(line)
        received = b""
        try:
            while chunk := connection.recv(4096):
                received += chunk
        except (TimeoutError, ConnectionError):
            pass
    return received


def test_without_a_client_certificate_nobody_is_answered(platform: Secured) -> None:
    context = ssl.create_default_context(cafile=platform.secrets / "ca.pem")
    for name in SERVICES:
        with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
            url = f"https://127.0.0.1:{platform.ports[f'{name}-metrics']}/metrics"
            urllib.request.urlopen(url, timeout=5, context=context).read()
        ca = (platform.secrets / "ca.pem").read_bytes()
        anonymous = grpc.ssl_channel_credentials(ca)
        with (
            grpc.secure_channel(f"localhost:{platform.ports[name]}", anonymous) as channel,
            pytest.raises(grpc.RpcError),
        ):
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)

    async def connect_to_nats() -> None:
        seed = platform.seed("registry").get_secret_value()
        url = f"tls://127.0.0.1:{platform.ports['nats']}"
        await nats.connect(url, tls=context, nkeys_seed_str=seed, allow_reconnect=False, connect_timeout=3)

    with pytest.raises((nats.errors.Error, OSError, TimeoutError, ssl.SSLError)):
        asyncio.run(connect_to_nats())


def test_metrics_are_for_scrapers_with_a_certificate(platform: Secured) -> None:
    context = ssl.create_default_context(cafile=platform.secrets / "ca.pem")
    context.load_cert_chain(platform.secrets / "client" / "cert.pem", platform.secrets / "client" / "key.pem")
    url = f"https://127.0.0.1:{platform.ports['registry-metrics']}/metrics"
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:
        assert b"tunix_rt_rpcs_total" in answer.read()


def test_a_seed_without_the_right_certificate_and_a_certificate_without_a_seed_are_not_enough(
    platform: Secured, tmp_path: Path
) -> None:
    strangers = certificates(tmp_path / "strangers")
    url = f"tls://127.0.0.1:{platform.ports['nats']}"
    seed = platform.seed("registry")

    async def enter(settings: As) -> bool:
        try:
            client = await asyncio.wait_for(connect(settings), 4)
        except (nats.errors.Error, TimeoutError, OSError):
            return False
        await client.close()
        return True

    own = tls_of(platform.secrets, "client")
    assert asyncio.run(enter(As(url, nats_seed=seed, tls=own)))
    assert not asyncio.run(enter(As(url, nats_seed=seed, tls=tls_of(strangers, "client"))))
    assert not asyncio.run(enter(As(url, tls=own)))


def test_certificates_replaced_while_running_are_served_at_the_next_connection(platform: Secured) -> None:
    ports = {name: platform.ports[name] for name in (*SERVICES, *(f"{name}-metrics" for name in SERVICES))}
    before = {name: served_certificate(port, platform.secrets) for name, port in ports.items()}
    assert before == {name: certificate_file(platform.secrets, name.partition("-")[0]) for name in ports}
    certificates(platform.secrets, renew=True)
    os.kill(platform.pids["nats"], signal.SIGHUP)
    after = {name: served_certificate(port, platform.secrets) for name, port in ports.items()}
    assert after == {name: certificate_file(platform.secrets, name.partition("-")[0]) for name in ports}
    assert not set(before.values()) & set(after.values())

    async def connects_to_nats() -> bytes:
        settings = As(
            f"tls://127.0.0.1:{platform.ports['nats']}",
            nats_seed=platform.seed("registry"),
            tls=tls_of(platform.secrets, "client"),
        )
        client = await asyncio.wait_for(connect(settings), 10)
        connection = client._transport._io_writer.get_extra_info("ssl_object")
        await client.close()
        return bytes(connection.getpeercert(binary_form=True))

    assert asyncio.run(connects_to_nats()) == certificate_file(platform.secrets, "nats")
    for name in SERVICES:
        assert probe(platform.ports[name], platform.secrets, name) == 0


async def test_the_http_endpoint_follows_replaced_files_and_waits_for_both_halves(tmp_path: Path) -> None:
    secrets = certificates(tmp_path / "secrets")

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    stop = asyncio.Event()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    settings = InferencerSettings(
        home=tmp_path, http_listen="127.0.0.1:0", tls=tls_of(secrets, "inferencer"), grace_seconds=0.1
    )
    async with serving_http(app, settings, stop, bound.set_result):
        port = await bound
        first = await asyncio.to_thread(served_certificate, port, secrets)
        assert first == certificate_file(secrets, "inferencer")
        key = secrets / "inferencer" / "key.pem"
        old_key, old_certificate = key.read_bytes(), (secrets / "inferencer" / "cert.pem").read_bytes()
        certificates(secrets, renew=True)
        (secrets / "inferencer" / "cert.pem").write_bytes(old_certificate)  # only the key is new so far
        assert await asyncio.to_thread(served_certificate, port, secrets) == first
        certificates(secrets, renew=True)
        assert key.read_bytes() != old_key
        assert await asyncio.to_thread(served_certificate, port, secrets) == certificate_file(secrets, "inferencer")


async def test_the_name_in_a_clients_certificate_is_known_to_the_server(tmp_path: Path) -> None:
    secrets = certificates(tmp_path / "secrets")
    names: list[str | None] = []

    class Health(health_pb2_grpc.HealthServicer):
        async def Check(self, request, context):  # type: ignore[no-untyped-def]
            names.append(peer_certificate_name(context))
            return health_pb2.HealthCheckResponse()

    for tls in (tls_of(secrets, "registry"), None):
        server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(Health(), server)
        credentials = server_credentials(tls) if tls else None
        port = (
            server.add_secure_port("127.0.0.1:0", credentials)
            if credentials
            else server.add_insecure_port("127.0.0.1:0")
        )
        await server.start()
        for client in ("trainer", "evaluator") if tls else ("nobody",):
            own = tls_of(secrets, client) if tls else None
            async with open_channel(f"127.0.0.1:{port}", token=None, tls=own) as channel:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        await server.stop(0)
    assert names == ["trainer", "evaluator", None]


def certs_init(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tunix_rt.cli.main", "certs", "init", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_certs_init_keeps_what_exists_and_says_what_it_does_not_overwrite(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    made = certs_init(str(secrets), "--hosts", "10.1.2.3", "--pool", "cpu", "--pool", "gpu", "--json")
    assert made.returncode == 0, made.stderr
    statuses = {each["name"]: each["status"] for each in json.loads(made.stdout)["certificates"]}
    assert set(statuses) == {
        *("nats", "postgres", "registry", "inferencer", "evaluator", "tuner", "trainer", "trainer-gpu", "client")
    }
    assert set(statuses.values()) == {"created"}
    for key in secrets.rglob("*.key"), secrets.rglob("key.pem"):
        for path in key:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    again = certs_init(str(secrets), "--pool", "cpu", "--pool", "gpu", "--json")
    assert {each["status"] for each in json.loads(again.stdout)["certificates"]} == {"kept"}
    assert {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()} == before

    other_host = certs_init(str(secrets), "--hosts", "gpu.example")
    assert other_host.returncode == 1 and "is not for gpu.example; use --renew" in other_host.stderr
    assert {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()} == before
    renewed = certs_init(str(secrets), "--hosts", "gpu.example", "--renew", "--json")
    assert renewed.returncode == 0
    assert (secrets / "ca.key").read_bytes() == before[secrets / "ca.key"]
    assert (secrets / "registry" / "key.pem").read_bytes() != before[secrets / "registry" / "key.pem"]

    (secrets / "ca.key").unlink()
    half = certs_init(str(secrets))
    assert half.returncode == 1 and "exists without ca.key" in half.stderr
    assert not (secrets / "ca.key").exists()


def test_an_expired_certificate_is_named(tmp_path: Path) -> None:
    init_certificates(tmp_path, trainers=[], hosts=[], days=0)
    with pytest.raises(FailedPrecondition, match="expired"):
        init_certificates(tmp_path, trainers=[], hosts=[], days=1)


_WITHOUT_SERVER_EXTRA = """
import sys
for name in ("structlog", "prometheus_client", "opentelemetry", "fsspec", "grpc_health"):
    sys.modules[name] = None  # importing it fails
from tunix_rt.cli.main import app
from tunix_rt.bus.server_config import main
app(["certs", "init", sys.argv[1]], standalone_mode=False)
main([sys.argv[1]])
app(["--home", sys.argv[1], "status"], standalone_mode=False)
"""


def test_an_operators_laptop_needs_the_clients_installation_only(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT_SERVER_EXTRA, str(tmp_path)], capture_output=True, text=True)
    assert (tmp_path / "nats" / "nats-server.conf").exists(), done.stderr
    assert "no platform runs" in done.stdout, done.stderr
