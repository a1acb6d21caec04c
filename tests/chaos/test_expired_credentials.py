"""A certificate or a token that has expired is waited out: with a new one work goes on, and no job has failed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.chaos.audit import Tables
from tests.chaos.crowd import Crowd, settings_on, start_trainer, until
from tests.fixtures.nats import NatsServer
from tests.fixtures.registry_process import registry_process
from tests.fixtures.tls import certificates, environment_of

from tunix_rt.client import TunixClient
from tunix_rt.local import LocalPlatform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
RUNS = 20
EXPIRES_SECONDS = 12


@pytest.mark.fault("TLS: every certificate has expired, for 15 s")
def test_expired_certificates(tmp_path: Path, nats: NatsServer, recovered: Callable[[float], None]) -> None:
    secrets = certificates(tmp_path / "secrets")
    home = tmp_path / "home"
    home.mkdir()
    with registry_process(home, nats, certificates=secrets) as registry:
        crowd = Crowd(registry, Tables(str(home / "registry.sqlite")))
        try:
            crowd.trainer(**environment_of(secrets, "trainer"))
            for _ in range(RUNS):
                registry.create(max_attempts=20)
            crowd.until_more_end(2)
            certificates(secrets, renew=True, days=0)
            registry.signal(signal.SIGKILL)  # connections end, and new ones are refused
            registry.begin()
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline:
                assert registry.list() is None, "a registry with an expired certificate was believed"
                time.sleep(0.5)
            certificates(secrets, renew=True)
            registry.until(lambda: registry.list() is not None, 60)
            recovered(crowd.until_more_end(1))
            for _ in range(RUNS):
                registry.create(max_attempts=20)
            crowd.settle()
        finally:
            crowd.close()


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path / "home", ports="free", service_counts={"registry": 1}) as running:
        yield running


@contextlib.contextmanager
def trainer(platform: LocalPlatform, token_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    template = platform.home / "template"
    template.mkdir()
    (template / "model.safetensors").write_bytes(b"weights")
    process = start_trainer(template, platform.home / "quick-trainer.log", settings_on(platform, token_file))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.fault("worker: its token has expired, for a minute")
def test_an_expired_token(platform: LocalPlatform, tmp_path: Path, recovered: Callable[[float], None]) -> None:
    token_file = tmp_path / "token"
    with TunixClient(home=platform.home) as client:
        client.access.create("chaos-trainer", ["trainer"], service=True, pools=["cpu"])

        def renew(ttl_seconds: int) -> None:
            made = client.access.create_token("chaos-trainer", ttl_seconds=ttl_seconds)
            token_file.with_suffix(".new").write_text(made.secret)
            token_file.with_suffix(".new").rename(token_file)

        renew(EXPIRES_SECONDS)
        dataset = client.datasets.build("arith-v1", size=20).id
        steps = {"max_steps": 50, "logging_steps": 1, "warmup_steps": 0, "save_steps": 0}

        def create() -> str:
            return client.runs.create(base_model="preset://tiny", dataset_id=dataset, hyperparameters=steps).id

        with trainer(platform, token_file):
            runs = [create() for _ in range(RUNS)]
            until("a run that ends", lambda: any(client.runs.get(run).end_time for run in runs), 60)
            time.sleep(EXPIRES_SECONDS + 60)  # longer than the deliveries of a command last
            runs += [create() for _ in range(RUNS)]
            renew(3600)
            ended = [client.runs.wait(run, timeout_seconds=120) for run in runs]
        assert {run.state.name for run in ended} == {"SUCCEEDED"}, [run.message for run in ended if run.message]
