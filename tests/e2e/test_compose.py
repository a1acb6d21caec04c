"""docker-compose on an empty engine: five images are built, and train → evaluate → leaderboard runs on PostgreSQL.

Everything speaks TLS with certificates that the project's `setup` makes.
"""

import io
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunix_rt.client import JobState, TunixClient
from tunix_rt.local.ports import free_ports

REPOSITORY = Path(__file__).parents[2]
SERVICES = ("registry", "trainer", "inferencer", "evaluator", "tuner")
BUILD_SECONDS = 1500
OWN_TOKEN = secrets.token_urlsafe(32)


def docker_answers() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(BUILD_SECONDS + 600),
    pytest.mark.skipif(not docker_answers(), reason="no Docker engine answers"),
]


@dataclass(frozen=True)
class Compose:
    """The project up, and a folder with a client's certificate."""

    command: list[str]
    environment: dict[str, str]
    secrets: Path

    def run(self, *arguments: str, seconds: float = 300, stdin: bytes = b"", **environment: str) -> bytes:
        """What docker-compose writes to stdout; asserts that it succeeds."""
        done = subprocess.run(
            [*self.command, *arguments],
            env=self.environment | environment,
            cwd=REPOSITORY,
            input=stdin,
            capture_output=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]!r}\n{done.stderr[-3000:]!r}"
        return done.stdout

    def port(self, name: str) -> int:
        return int(self.environment[f"TUNIX_RT_{name}_PORT"])


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """The project up, under a name and on ports of its own; its images carry a tag of their own and go at the end."""
    command = [shutil.which("docker-compose")] if shutil.which("docker-compose") else ["docker", "compose"]
    ports = free_ports(["registry", "inferencer", "http"])
    environment = {
        **os.environ,
        "TUNIX_RT_REGISTRY_PORT": str(ports["registry"]),
        "TUNIX_RT_INFERENCER_PORT": str(ports["inferencer"]),
        "TUNIX_RT_HTTP_PORT": str(ports["http"]),
        "TUNIX_RT_VERSION": f"test-{uuid.uuid4().hex[:8]}",
    }
    project = [*command, "-p", f"tunixrt{uuid.uuid4().hex[:8]}", "-f", str(REPOSITORY / "docker-compose.yml")]
    running = Compose(project, environment, tmp_path_factory.mktemp("secrets"))
    try:
        running.run("build", seconds=BUILD_SECONDS)
        give = ["sh", "-c", "cat >/secrets/registry/token"]
        running.run("run", "--rm", "--no-deps", "-T", "setup", *give, stdin=f"{OWN_TOKEN}\n".encode())
        running.run("up", "-d")
        archive = running.run("run", "--rm", "--no-deps", "-T", "setup", "tar", "-C", "/secrets", "-c", "client")
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(running.secrets, filter="data")
        yield running
    finally:
        subprocess.run([*project, "logs", "--no-color", "--tail", "30"], env=environment, cwd=REPOSITORY)
        subprocess.run([*project, "down", "-v", "--rmi", "local", "-t", "5"], env=environment, cwd=REPOSITORY)
        for service in SERVICES:
            image = f"tunix-rt/{service}:{environment['TUNIX_RT_VERSION']}"
            subprocess.run(["docker", "image", "rm", image], capture_output=True)


@pytest.fixture(scope="module")
def client(compose: Compose) -> Iterator[TunixClient]:
    with pytest.MonkeyPatch.context() as patch:
        for name, file in (("CA", "ca.pem"), ("CERT", "cert.pem"), ("KEY", "key.pem")):
            patch.setenv(f"TUNIX_RT_TLS_{name}_FILE", str(compose.secrets / "client" / file))
        with TunixClient(
            f"127.0.0.1:{compose.port('REGISTRY')}",
            (compose.secrets / "client" / "token").read_text().strip(),
            inferencer_address=f"127.0.0.1:{compose.port('INFERENCER')}",
            outage_seconds=180,
        ) as connected:
            yield connected


def image_has(compose: Compose, service: str, module: str) -> bool:
    image = f"tunix-rt/{service}:{compose.environment['TUNIX_RT_VERSION']}"
    probe = f"import importlib.util as u, sys; sys.exit(0 if u.find_spec('{module}') else 3)"
    done = subprocess.run(["docker", "run", "--rm", image, "python", "-c", probe], capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr
    return done.returncode == 0


def test_the_loop_runs_on_containers_against_postgresql(client: TunixClient) -> None:
    evalset = client.evalsets.create(REPOSITORY / "evalsets" / "arith_v1.jsonl")
    dataset = client.datasets.build("arith-v1", size=600, decontaminate=[evalset.id])
    run = client.runs.create(
        base_model="preset://tiny",
        dataset_id=dataset.id,
        hyperparameters={"learning_rate": 3e-3, "per_device_batch_size": 16, "max_steps": 30, "max_seq_length": 72},
        evaluate_on=[{"evalset": "arith_v1", "generation": {"max_new_tokens": 24}}],
        display_name="on containers",
    )
    ended = client.runs.wait(run.id, timeout_seconds=300)
    assert ended.state is JobState.SUCCEEDED, ended.message
    evaluation = client.evaluations.wait(ended.evaluation_ids[0], timeout_seconds=300)
    assert evaluation.state is JobState.SUCCEEDED, evaluation.message
    assert evaluation.scorecard.n_scored == 100
    (entry,) = client.leaderboard("arith_v1").entries
    assert (entry.rank, entry.run_id, entry.primary_score) == (1, run.id, evaluation.scorecard.primary_score)
    assert client.generate(ended.model_id, "What is 2 + 3?", config={"max_new_tokens": 8}).usage.completion_tokens > 0


def test_a_sweep_runs_on_containers(client: TunixClient) -> None:
    dataset = client.datasets.build("arith-v1", size=200)
    sweep = client.sweeps.create(
        base={
            "base_model": "preset://tiny",
            "dataset_id": dataset.id,
            "hyperparameters": {"max_steps": 4, "save_steps": 0, "max_seq_length": 72, "per_device_batch_size": 8},
        },
        parameters={"learning_rate": {"loguniform": {"low": 1e-4, "high": 1e-2}}},
        num_samples=2,
        objective={"metric": "loss", "mode": "OBJECTIVE_MODE_MIN"},
    )
    ended = client.sweeps.wait(sweep.id, timeout_seconds=300)
    assert ended.state is JobState.SUCCEEDED, ended.message
    assert [trial.state for trial in client.sweeps.trials(sweep.id)] == [JobState.SUCCEEDED] * 2


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_becomes_healthy(compose: Compose, client: TunixClient, service: str) -> None:
    container = compose.run("ps", "-q", service).decode().strip()
    deadline = time.monotonic() + 120
    while True:
        inspect = ["docker", "inspect", "-f", "{{.State.Health.Status}}", container]
        status = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip()
        if status == "healthy":
            return
        assert time.monotonic() < deadline, status
        time.sleep(1)


@pytest.mark.parametrize("name", ["REGISTRY", "INFERENCER", "HTTP"])
def test_published_ports_refuse_plain_text_and_clients_without_a_certificate(
    compose: Compose, client: TunixClient, name: str
) -> None:
    port = compose.port(name)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = plain.recv(100)
        except ConnectionResetError:
            answer = b""
        assert answer == b"" or answer[0] == 0x15  # closed, or an alert of TLS
    context = ssl.create_default_context(cafile=compose.secrets / "client" / "ca.pem")
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        # In TLS 1.3 the server's refusal comes after the client's last message of the handshake.
        assert connection.recv(100) == b"", "answered without a certificate"
        raise ConnectionResetError


_ENTER_NATS = """
import asyncio, sys, nats
from pathlib import Path
from tunix_rt.rpc.settings import TlsSettings
from tunix_rt.rpc.tls import client_context
async def enter(**credentials):
    try:
        await nats.connect(credentials.pop("url"), allow_reconnect=False, connect_timeout=3, **credentials)
        return "in"
    except Exception:
        return "out"
async def main():
    tls = client_context(TlsSettings())
    seed = Path("/run/secrets/tunix-rt/nats.seed").read_text().strip()
    print(await enter(url="nats://nats:4222", nkeys_seed_str=seed),
          await enter(url="tls://nats:4222", tls=tls),
          await enter(url="tls://nats:4222", tls=tls, nkeys_seed_str=seed))
asyncio.run(main())
"""


def test_nats_lets_in_who_has_a_certificate_and_a_key(compose: Compose, client: TunixClient) -> None:
    """By a neighbour in the network of the project, who has neither, one, or both."""
    out = compose.run("exec", "-T", "evaluator", "python", "-c", _ENTER_NATS).decode().split()
    assert out[1:] == ["out", "in"]
    assert out[0] == "out"


_CERTIFICATE_OF_POSTGRES = """
import hashlib, socket, ssl, struct
with socket.create_connection(("postgres", 5432), timeout=10) as plain:
    plain.sendall(struct.pack("!ii", 8, 80877103))  # SSLRequest
    assert plain.recv(1) == b"S"
    context = ssl.create_default_context(cafile="/run/secrets/tunix-rt/ca.pem")
    with context.wrap_socket(plain, server_hostname="postgres") as connection:
        print(hashlib.sha256(connection.getpeercert(binary_form=True)).hexdigest())
"""


def test_certificates_are_replaced_while_everything_runs(compose: Compose, client: TunixClient) -> None:
    def served(name: str) -> bytes:
        context = ssl.create_default_context(cafile=compose.secrets / "client" / "ca.pem")
        context.load_cert_chain(compose.secrets / "client" / "cert.pem", compose.secrets / "client" / "key.pem")
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", compose.port(name)), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            return connection.getpeercert(binary_form=True) or b""

    names = ("REGISTRY", "INFERENCER", "HTTP")
    before = {name: served(name) for name in names}
    of_database = ["exec", "-T", "registry", "python", "-c", _CERTIFICATE_OF_POSTGRES]
    database_before = compose.run(*of_database)
    compose.run("run", "--rm", "--no-deps", "-T", "setup", RENEW="1")
    compose.run("kill", "-s", "HUP", "nats", "postgres")
    after = {name: served(name) for name in names}
    assert not set(before.values()) & set(after.values())
    assert compose.run(*of_database) != database_before
    assert len(list(client.runs.list())) >= 1


@pytest.mark.parametrize(
    ("service", "module", "present"),
    [
        ("registry", "sqlmodel", True),
        ("registry", "jax", False),
        ("registry", "ray", False),
        ("evaluator", "jax", False),
        ("evaluator", "sqlmodel", False),
        ("tuner", "ray", True),
        ("tuner", "jax", False),
        ("inferencer", "jax", True),
        ("inferencer", "grain", False),
        ("trainer", "grain", True),
        ("trainer", "torch", False),
    ],
)
def test_each_image_holds_its_own_extra_only(compose: Compose, service: str, module: str, present: bool) -> None:
    assert image_has(compose, service, module) is present


def test_an_administrator_s_token_can_be_given_before_the_first_start(compose: Compose, client: TunixClient) -> None:
    assert (compose.secrets / "client" / "token").read_text().strip() == OWN_TOKEN


@pytest.mark.parametrize("service", [*SERVICES, "postgres"])
def test_container_runs_without_privileges_on_a_root_that_it_cannot_write(
    compose: Compose, client: TunixClient, service: str
) -> None:
    status = dict(
        line.split(":", 1) for line in compose.run("exec", "-T", service, "cat", "/proc/1/status").decode().splitlines()
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert {status[f"Cap{name}"].strip() for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    write = (
        "for at in /probe /opt/probe /usr/probe /run/secrets/tunix-rt/probe /tmp/probe; do touch $at; done 2>&1; true"
    )
    refused = compose.run("exec", "-T", service, "sh", "-c", write).decode()
    assert refused.count("Read-only file system") == 4, refused
    assert "/tmp/probe" not in refused


def test_nats_runs_on_a_root_that_it_cannot_write(compose: Compose, client: TunixClient) -> None:
    container = compose.run("ps", "-q", "nats").decode().strip()
    inspected = subprocess.run(["docker", "inspect", container], capture_output=True, check=True)
    (found,) = json.loads(inspected.stdout)
    assert found["Config"]["User"] == "10001:10001"
    host = found["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["CapAdd"]) == (True, ["ALL"], None)
    assert host["Memory"] == 2**30 and host["PidsLimit"] == 512


@pytest.mark.parametrize("package", ["uv", "mdurl"])
def test_the_image_is_not_built_with_one_wheel_that_the_lock_does_not_know(tmp_path: Path, package: str) -> None:
    """With the recipe, by an engine: the hashes of one package are others, as if its wheel had been changed."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    for name in ("deploy", "evalsets", "services"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (REPOSITORY / "requirements.lock").read_text()
    (entry,) = re.findall(rf"^{package}==.*(?:\n .*)+", text, re.MULTILINE)
    changed = re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, entry)
    (tmp_path / "requirements.lock").write_text(text.replace(entry, changed))
    recipe = ["docker", "build", "--force-rm", "-f", "deploy/Dockerfile", "--build-arg", "SERVICE=evaluator", "."]
    done = subprocess.run(recipe, cwd=tmp_path, capture_output=True, text=True, timeout=BUILD_SECONDS)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert re.search("DO NOT MATCH THE HASHES" if package == "uv" else "Hash mismatch for `mdurl", said), said[-3000:]


@pytest.mark.parametrize("service", SERVICES)
def test_image_runs_as_a_user_without_privileges(compose: Compose, service: str) -> None:
    image = f"tunix-rt/{service}:{compose.environment['TUNIX_RT_VERSION']}"
    done = subprocess.run(["docker", "run", "--rm", image, "id", "-u"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "10001"
