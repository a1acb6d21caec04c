"""A real nats-server, a real registry and real trainers as processes, for whatever trains through the platform."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import Pool, event
from tests.fixtures import field_coverage
from tests.fixtures.nats import NatsServer

from tunix_rt.local.ports import free_ports
from tunix_rt.rpc.channel import open_sync_channel
from tunix_rt.v1 import common_pb2, datasets_pb2, datasets_pb2_grpc, jobs_pb2, jobs_pb2_grpc, runs_pb2, runs_pb2_grpc

pytest_plugins = ["tests.fixtures.faults"]

TOKEN = "test-token-0123456789-abcdef"
SEEN_FIELDS = "TUNIX_RT_TEST_SEEN_FIELDS"
TERMINAL = (common_pb2.JOB_STATE_SUCCEEDED, common_pb2.JOB_STATE_FAILED, common_pb2.JOB_STATE_CANCELLED)


def until(what: str, check: Callable[[], object], seconds: float = 150) -> None:
    """Poll ``check`` until it is true."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-field",
        action="store_true",
        help="fail when a field of the registry's answers or events, or a column, is set nowhere in the whole suite",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[SEEN_FIELDS] = tempfile.mkdtemp(prefix="tunix-rt-seen-fields-")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With ``--every-field``: no response, event or table has a field that nothing ever sets."""
    directory = Path(os.environ[SEEN_FIELDS])
    field_coverage.write(directory / f"{os.getpid()}.json")
    config = session.config
    if hasattr(config, "workerinput"):
        return
    unset = field_coverage.missing(directory.iterdir())
    shutil.rmtree(directory)
    if config.option.every_field and unset:
        if exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_line(f"never set in this run: {', '.join(unset)}", red=True)


@event.listens_for(Pool, "checkout")
def _do_not_wait_for_the_disk(connection: object, record: object, proxy: object) -> None:
    """Databases in this process do not outlive a power cut, and need not; those of processes do as in production."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled programs of this test run's services and workers are shared: each is compiled once."""
    own = tmp_path_factory.getbasetemp()
    of_all_workers = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    os.environ["TUNIX_RT_CACHE_DIR"] = str(of_all_workers / "cache")
    if "jax" in sys.modules:  # a test of this run compiles in its own process
        from tunix_rt.models.compilation_cache import enable_compilation_cache  # here: it imports JAX

        enable_compilation_cache(of_all_workers / "programs")
    yield
    del os.environ["TUNIX_RT_CACHE_DIR"]


class Service:
    """One process of the stack; its log is shown when a test fails."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.name, self._log = name, log.open("ab")
        self.process = subprocess.Popen(
            arguments, env={**os.environ, **environment}, stdout=self._log, stderr=self._log
        )

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 40) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(seconds)
        self._log.close()

    def children(self) -> list[psutil.Process]:
        """Training processes that it has started."""
        found = psutil.Process(self.process.pid).children()
        return [child for child in found if "tunix_rt.trainer.child" in child.cmdline()]


class Stack:
    """NATS and a registry with ``settings`` (TUNIX_RT_… variables); trainers are started by the tests."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.nats = NatsServer(home / "nats")
        self.nats.start()
        self.registry_port = free_ports(["registry"])["registry"]
        self.environment = {
            "TUNIX_RT_HOME": str(home),
            "TUNIX_RT_TOKEN": TOKEN,
            "TUNIX_RT_NATS_URL": self.nats.nats_url,
            "TUNIX_RT_REGISTRY_ADDRESS": f"127.0.0.1:{self.registry_port}",
            "TUNIX_RT_AUTO_MIGRATE": "true",
            "TUNIX_RT_LEASE_SECONDS": "4",
            "TUNIX_RT_REAP_SECONDS": "0.5",
            **settings,
        }
        self.channel = open_sync_channel(f"127.0.0.1:{self.registry_port}", token=TOKEN)
        self.registry = self.start_registry()
        self.jobs: jobs_pb2_grpc.JobServiceStub = jobs_pb2_grpc.JobServiceStub(self.channel)
        self.runs: runs_pb2_grpc.RunServiceStub = runs_pb2_grpc.RunServiceStub(self.channel)
        self.datasets: datasets_pb2_grpc.DatasetServiceStub = datasets_pb2_grpc.DatasetServiceStub(self.channel)
        self.dataset = self.datasets.BuildDataset(
            datasets_pb2.BuildDatasetRequest(request_id=str(uuid.uuid4()), recipe="golden-v2")
        )

    def start_registry(self) -> Service:
        """A registry that answers already."""
        environment = {**self.environment, "TUNIX_RT_LISTEN": f"127.0.0.1:{self.registry_port}"}
        command = [sys.executable, "-m", "tunix_rt.registry"]
        running = Service("registry", command, environment, self.home / "registry.log")
        until("an answer of the registry", self._registry_answers, 60)
        return running

    def _registry_answers(self) -> bool:
        try:
            health_pb2_grpc.HealthStub(self.channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.RpcError:
            return False
        return True

    def start_trainer(self, **settings: str) -> Service:
        """A trainer with ``settings`` (TUNIX_RT_… variables) besides the stack's."""
        port = free_ports(["trainer"])["trainer"]
        environment = {**self.environment, "TUNIX_RT_LISTEN": f"127.0.0.1:{port}", **settings}
        return Service("trainer", [sys.executable, "-m", "tunix_rt.trainer"], environment, self.home / "trainer.log")

    def create_run(
        self,
        *,
        base_model: str = "preset://tiny",
        max_attempts: int = 0,
        initial_checkpoint: runs_pb2.CheckpointRef | None = None,
        checkpoint_retention: str = "",
        **hyperparameters: object,
    ) -> str:
        spec = runs_pb2.RunSpec(
            base_model=base_model,
            dataset_id=self.dataset.id,
            pool="cpu",
            model_name="tiny",
            max_attempts=max_attempts,
            initial_checkpoint=initial_checkpoint,
            checkpoint_retention=checkpoint_retention,
            hyperparameters=runs_pb2.Hyperparameters(
                **{"per_device_batch_size": 2, "max_seq_length": 64, "overlong": "truncate", **hyperparameters}
            ),
        )
        return self.runs.CreateRun(runs_pb2.CreateRunRequest(request_id=str(uuid.uuid4()), spec=spec)).id

    until = staticmethod(until)

    def run(self, run_id: str) -> runs_pb2.Run:
        return self.runs.GetRun(runs_pb2.GetRunRequest(id=run_id))

    def finished(self, run_id: str, seconds: float = 150) -> runs_pb2.Run:
        """The run once it has ended."""
        until(f"the end of {run_id}", lambda: self.run(run_id).state in TERMINAL, seconds)
        return self.run(run_id)

    def metrics(self, run_id: str, key: str) -> dict[int, float]:
        request = runs_pb2.ListMetricsRequest(run_id=run_id, keys=[key], page_size=1000)
        return {point.step: point.value for point in self.runs.ListMetrics(request).points}

    def logs(self, run_id: str) -> list[str]:
        request = runs_pb2.ListLogsRequest(run_id=run_id, page_size=1000)
        return [line.message for line in self.runs.ListLogs(request).lines]

    def attempts(self, run_id: str) -> list[str]:
        """Outcomes of the run's attempts, oldest first."""
        name = jobs_pb2.AttemptOutcome.Name
        return [name(each.outcome).removeprefix("ATTEMPT_OUTCOME_") for each in self.list_attempts(run_id)]

    def list_attempts(self, run_id: str) -> list[jobs_pb2.Attempt]:
        """The run's attempts, oldest first."""
        return list(self.jobs.ListAttempts(jobs_pb2.ListAttemptsRequest(job_id=run_id)).attempts)

    def _checkpoints(self, run_id: str) -> Path:
        return self.home / "artifacts" / "checkpoints" / run_id

    def checkpoint_steps(self, run_id: str) -> list[int]:
        """Steps with a committed checkpoint on disk, newest first."""
        found = self._checkpoints(run_id).glob("[0-9]*")
        return sorted((int(path.name) for path in found), reverse=True)

    def checkpoint_files(self, run_id: str, step: int) -> list[Path]:
        """Every file of a checkpoint's data."""
        return [path for path in (self._checkpoints(run_id) / str(step) / "data").rglob("*") if path.is_file()]

    def close(self) -> None:
        self.channel.close()
        self.registry.stop()
        self.nats.kill()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("home"))
    yield running
    running.close()


@pytest.fixture
def trainer(stack: Stack) -> Iterator[Service]:
    running = stack.start_trainer()
    yield running
    running.stop()
