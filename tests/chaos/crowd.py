"""A registry under load: clients that create and cancel runs and insist on an answer, trainers that carry them out, and
an audit at the end. Registry, nats-server and trainers are processes of their own, which a test may do anything to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from nats.js import JetStreamContext
from tests.chaos.audit import Tables, not_ended, unpublished, violations
from tests.fixtures.registry_process import Bus, RegistryProcess, registry_process

from tunix_rt.bus.connection import NatsAddress, connect
from tunix_rt.local import LocalPlatform
from tunix_rt.v1 import runs_pb2, runs_pb2_grpc

REPOSITORY = Path(__file__).parents[2]
CLIENTS = 4
REPEATED = 0.15
CANCELLED = 0.1
# What a client tries again, with the same request id: it cannot know whether the first try was carried out.
AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
)


def until(what: str, happened: Callable[[], bool], seconds: float) -> float:
    """Wait for it, at most ``seconds``; how long it took."""
    begin = time.monotonic()
    while True:
        if happened():
            return time.monotonic() - begin
        assert time.monotonic() - begin < seconds, f"{what} did not happen within {seconds} s"
        time.sleep(0.1)


def ask(nats: NatsAddress, what: Callable[[JetStreamContext], Awaitable[Any]]) -> Any:
    """What an operator asks of JetStream by hand."""

    async def asked() -> Any:
        client = await connect(nats, name="operator")
        try:
            return await what(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(asked())


@dataclass
class Clients:
    """Threads that create runs and, now and then, ask again or cancel; ``acknowledged`` is what they were told."""

    address: str
    dataset_id: str
    seed: int = 1
    token: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    pause_seconds: float = 0.1
    acknowledged: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Clients call as long as the block runs; then each gets the answer that it waits for."""
        self._stop.clear()
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(90)
        assert not any(thread.is_alive() for thread in self._threads), "a client has had no answer for 90 s"
        assert self.faults == []

    def _work(self, number: int) -> None:
        chance = random.Random(f"{self.seed} {number} {len(self.acknowledged)}")
        options = [("grpc.max_reconnect_backoff_ms", 500)]
        with grpc.insecure_channel(self.address, options) as channel:
            runs: Any = runs_pb2_grpc.RunServiceStub(channel)
            while not self._stop.is_set():
                try:
                    self._one(runs, chance)
                except (grpc.RpcError, AssertionError) as error:
                    self.faults.append(f"{type(error).__name__}: {error}")
                    return
                self._stop.wait(self.pause_seconds)

    def _one(self, runs: Any, chance: random.Random) -> None:
        name = f"run-{uuid.uuid4()}"
        steps = chance.randint(1, 8)
        spec = runs_pb2.RunSpec(
            base_model="preset://tiny",
            dataset_id=self.dataset_id,
            hyperparameters=runs_pb2.Hyperparameters(max_steps=steps, logging_steps=1, save_steps=0, warmup_steps=0),
            **{"pool": "cpu", "max_attempts": 20} | dict(self.spec),
        )
        request = runs_pb2.CreateRunRequest(request_id=str(uuid.uuid4()), spec=spec, display_name=name)
        answer = self._answer(runs.CreateRun, request)
        self.acknowledged[answer.id] = name
        if chance.random() < REPEATED:
            again = self._answer(runs.CreateRun, request)
            assert again.id == answer.id, f"{name} is {answer.id}, and {again.id} when it is asked for again"
        if chance.random() < CANCELLED:
            self._answer(runs.CancelRun, runs_pb2.CancelRunRequest(request_id=str(uuid.uuid4()), id=answer.id))

    def _answer(self, call: Any, request: Any) -> Any:
        metadata = [("authorization", f"Bearer {self.token}")] if self.token else []
        while True:
            try:
                return call(request, timeout=10, metadata=metadata)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION and "Cancel" in type(request).__name__:
                    return None  # it has ended meanwhile
                if error.code() not in AGAIN:
                    raise
                time.sleep(0.2)


def start_trainer(template: Path, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A `quick_trainer` with the settings of ``environment``; its models are copies of ``template``."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.quick_trainer"],
            cwd=REPOSITORY,
            env={**os.environ, **environment, "QUICK_TRAINER_MODEL": str(template)},
            stdout=file,
            stderr=file,
        )


def settings_on(platform: LocalPlatform, token_file: Path) -> dict[str, str]:
    """Those of a trainer of the local platform, with the token in ``token_file``."""
    return {
        "TUNIX_RT_HOME": str(platform.home),
        "TUNIX_RT_NATS_URL": platform.nats_url,
        "TUNIX_RT_NATS_SEED_FILE": str(platform.nats_seed_path("trainer")),
        "TUNIX_RT_REGISTRY_ADDRESS": platform.addresses["registry"],
        "TUNIX_RT_TOKEN_FILE": str(token_file),
    }


class Crowd:
    """The registry with its clients and trainers."""

    def __init__(self, registry: RegistryProcess, tables: Tables, seed: int = 1, logs: Path | None = None) -> None:
        self.registry, self.tables = registry, tables
        self._logs = logs or registry.home
        self.nats: Any = registry.nats  # whichever the test runs
        self._trainers: list[subprocess.Popen[bytes]] = []
        template = registry.home / "template"
        template.mkdir()
        (template / "model.safetensors").write_bytes(b"weights")
        self._template = template
        self.clients = Clients(f"127.0.0.1:{registry.port}", registry.dataset(), seed)

    def trainer(self, **environment: str) -> subprocess.Popen[bytes]:
        """One more trainer; it is killed at the end at the latest."""
        settings = {
            "TUNIX_RT_HOME": str(self.registry.home),
            "TUNIX_RT_NATS_URL": self.nats.nats_url,
            "TUNIX_RT_REGISTRY_ADDRESS": f"127.0.0.1:{self.registry.port}",
            "TUNIX_RT_HEARTBEAT_SECONDS": "1",
        }
        log = self._logs / f"trainer-{len(self._trainers)}.log"
        process = start_trainer(self._template, log, {**settings, **environment})
        self._trainers.append(process)
        return process

    @property
    def acknowledged(self) -> dict[str, str]:
        """Display names of acknowledged runs by id."""
        return self.clients.acknowledged

    def ended(self) -> int:
        """How many runs have ended; what the tables say, whoever is up."""
        return int(self.tables.rows("SELECT count(*) FROM runs WHERE end_time IS NOT NULL")[0][0])

    def until_more_end(self, count: int = 10, seconds: float = 60.0) -> float:
        """Seconds until ``count`` more runs have ended."""
        before = self.ended()
        return until(f"{count} more runs that end", lambda: self.ended() >= before + count, seconds)

    def settle(self, seconds: float = 120.0) -> float:
        """Seconds until every run has ended and everything is published; then the tables are audited."""
        taken = until(
            "the end of every run",
            lambda: not not_ended(self.tables) and unpublished(self.tables) == 0,
            seconds,
        )
        assert violations(self.tables, self.acknowledged) == []
        states = dict(self.tables.rows("SELECT state, count(*) FROM runs GROUP BY state"))
        assert set(states) <= {"SUCCEEDED", "CANCELLED"}, states
        return taken

    def close(self) -> None:
        for process in self._trainers:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@contextmanager
def crowd_of(
    home: Path, nats: Bus, *, database_url: str = "", trainers: int = 2, logs: Path | None = None
) -> Iterator[Crowd]:
    """A registry on SQLite under ``home``, or on the database of ``database_url``, with trainers that work.

    ``logs`` is where the trainers' go, instead of ``home``.
    """
    environment = {"TUNIX_RT_DATABASE_URL": database_url} if database_url else {}
    with registry_process(home, nats, **environment) as registry:
        crowd = Crowd(registry, Tables(database_url or str(home / "registry.sqlite")), logs=logs)
        try:
            for _ in range(trainers):
                crowd.trainer()
            yield crowd
        finally:
            crowd.close()
