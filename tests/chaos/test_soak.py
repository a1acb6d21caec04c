"""Jobs of every kind for some minutes while parts are killed and stopped at random; then an audit by SQL (`make soak`).

TUNIX_RT_SOAK_SECONDS says how long, TUNIX_RT_SOAK_SEED which moments, TUNIX_RT_SOAK_DATABASE=postgresql on what.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from tests.chaos.audit import Tables, not_ended, unpublished, violations
from tests.chaos.crowd import REPOSITORY, Clients, ask, settings_on, start_trainer, until
from tests.fixtures.guarded_nats import As
from tests.fixtures.postgres_process import postgres_process

from tunix_rt.bus.topology import CMD_STREAM
from tunix_rt.client import TunixClient
from tunix_rt.errors import TunixError
from tunix_rt.local import LocalPlatform
from tunix_rt.local.settings import LocalSettings

SECONDS = float(os.environ.get("TUNIX_RT_SOAK_SECONDS", "0"))
SEED = int(os.environ.get("TUNIX_RT_SOAK_SEED", "1"))
ON_POSTGRES = os.environ.get("TUNIX_RT_SOAK_DATABASE", "") == "postgresql"
pytestmark = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS + 900),
    pytest.mark.skipif(not SECONDS, reason="`make soak` runs it"),
]
FAULTS_A_MINUTE = 16
# Leases are short, so that a successor comes soon.
SETTINGS = {"TUNIX_RT_LEASE_SECONDS": "6", "TUNIX_RT_REAP_SECONDS": "0.5", "TUNIX_RT_HEARTBEAT_SECONDS": "1"}
PARTS = {
    "nats": 5,
    "registry": 5,
    "trainer": 3,
    "quick trainer": 3,
    "training process": 2,
    "evaluator": 2,
    "tuner": 2,
    "inferencer": 1,
}
SIGNALS = {signal.SIGKILL: 12, signal.SIGTERM: 5, signal.SIGSTOP: 3, signal.SIGSEGV: 1}
ITEMS = 6
TRIALS = 3
TINY = {"max_steps": 4, "warmup_steps": 0, "per_device_batch_size": 2, "max_seq_length": 64, "logging_steps": 1}


class Platform:
    """The local platform, and trainers that take no time beside its own."""

    def __init__(self, running: LocalPlatform, tables: Tables, client: TunixClient) -> None:
        self.running, self.tables, self.client = running, tables, client
        self.dataset = client.datasets.build("arith-v1", size=100).id
        lines = (REPOSITORY / "evalsets" / "arith_v1.jsonl").read_text().splitlines()[:ITEMS]
        evalset = running.home / "soak.jsonl"
        evalset.write_text("\n".join(lines))
        client.evalsets.create(evalset)
        run = client.runs.create(base_model="preset://tiny", dataset_id=self.dataset, hyperparameters=TINY)
        ended = client.runs.wait(run.id, timeout_seconds=300)
        self.model = ended.model_id
        self.template = client.models.get(self.model).artifact.uri.removeprefix("file://")
        self.quick = self.start_quick()

    def start_quick(self) -> subprocess.Popen[bytes]:
        home = self.running.home
        settings = settings_on(self.running, home / "tokens" / "trainer")
        return start_trainer(Path(self.template), home / "quick-trainer.log", {**SETTINGS, **settings})

    def pid(self, part: str) -> int | None:
        """Of a process of ``part``, if there is one."""
        if part == "quick trainer":
            if self.quick.poll() is not None:
                self.quick = self.start_quick()
            return self.quick.pid
        if part == "training process":
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "tunix_rt.trainer.child" in process.cmdline():
                        return int(process.pid)
            return None
        return self.running.pid(part)

    def commands(self) -> int:
        """How many are in the stream."""
        seed = SecretStr(self.running.nats_seed_path("registry").read_text().strip())

        registry = As(self.running.nats_url, nats_seed=seed)
        return int(ask(registry, lambda js: js.stream_info(CMD_STREAM)).state.messages)


class Faults(threading.Thread):
    """Kills and stops until it is told to end; ``done`` counts (part, signal)."""

    def __init__(self, platform: Platform, seed: int) -> None:
        super().__init__(name="faults", daemon=True)
        self._platform, self._random = platform, random.Random(seed)
        self.over = threading.Event()
        self.done = Counter[tuple[str, str]]()

    def run(self) -> None:
        while not self.over.wait(self._random.uniform(0, 120 / FAULTS_A_MINUTE)):
            (part,) = self._random.choices(list(PARTS), list(PARTS.values()))
            (number,) = self._random.choices(list(SIGNALS), list(SIGNALS.values()))
            pid = self._platform.pid(part)
            if pid is not None:
                self._strike(part, pid, number)

    def _strike(self, part: str, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            self.done[part, number.name] += 1
            if number == signal.SIGSTOP:
                self.over.wait(self._random.uniform(1, 15))
                os.kill(pid, signal.SIGCONT)


class Others(threading.Thread):
    """Evaluations and sweeps, one after the other, until it is told to end; ``made`` are their ids."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(name="others", daemon=True)
        self._platform = platform
        self.over = threading.Event()
        self.made: list[str] = []
        self.problem = ""

    def run(self) -> None:
        try:
            while not self.over.wait(5.0):
                self.made.append(self._evaluation())
                if len(self.made) % 4 == 2:
                    self.made.append(self._sweep())
        except TunixError as error:
            self.problem = str(error)

    def _evaluation(self) -> str:
        generation = {"max_new_tokens": 8}
        created = self._platform.client.evaluations.create(self._platform.model, "soak", generation=generation)
        return created.id

    def _sweep(self) -> str:
        base = {"base_model": "preset://tiny", "dataset_id": self._platform.dataset, "hyperparameters": TINY}
        created = self._platform.client.sweeps.create(
            base={**base, "max_attempts": 20},
            parameters={"learning_rate": {"loguniform": {"low": 1e-4, "high": 1e-2}}},
            num_samples=TRIALS,
            max_concurrent_trials=2,
            objective={"metric": "loss", "mode": "OBJECTIVE_MODE_MIN"},
            max_attempts=20,
        )
        return created.id


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(postgres_process()).url if ON_POSTGRES else ""
        running = stack.enter_context(
            LocalPlatform(
                tmp_path / "home",
                ports="free",
                environment={**SETTINGS, **({"TUNIX_RT_DATABASE_URL": url} if url else {})},
                settings=LocalSettings(patience_seconds=20),
            )
        )
        client = stack.enter_context(TunixClient(home=running.home, outage_seconds=180))
        tables = Tables(url or str(running.home / "registry.sqlite"))
        platform = Platform(running, tables, client)
        yield platform
        platform.quick.kill()
        platform.quick.wait()


def test_soak(platform: Platform) -> None:
    """At the end no job is left, streams and outbox are empty, and nothing that was acknowledged is lost or doubled."""
    clients = Clients(
        platform.running.addresses["registry"],
        platform.dataset,
        seed=SEED,
        token=platform.running.token,
        pause_seconds=1.0,
    )
    faults, others = Faults(platform, SEED), Others(platform)
    with clients.calling():
        faults.start()
        others.start()
        time.sleep(SECONDS)
        faults.over.set()
        faults.join(60)
        others.over.set()
        others.join(200)
    assert not others.is_alive()
    assert others.problem == ""
    assert others.made
    platform.pid("quick trainer")
    drained = until("the end of every job", lambda: not not_ended(platform.tables), 600)
    until("that everything is published", lambda: unpublished(platform.tables) == 0, 60)
    until("an empty stream of commands", lambda: platform.commands() == 0, 60)
    found = violations(platform.tables, clients.acknowledged)
    report(platform.tables, faults.done, len(clients.acknowledged), drained, found)
    assert found == []
    assert faults.done.total() >= SECONDS / 60 * 10
    failed = platform.tables.rows("SELECT id, reason, message FROM runs WHERE state = 'FAILED'")
    assert failed == []
    stored = platform.tables.rows("SELECT id FROM evaluations UNION SELECT id FROM sweeps")
    assert {(name,) for name in others.made} <= set(stored)


def report(tables: Tables, done: Counter[tuple[str, str]], acknowledged: int, drained: float, found: list[str]) -> None:
    """What happened, for who runs it."""
    by_signal, by_part = Counter[str](), Counter[str]()
    for (part, number), count in done.items():
        by_signal[number] += count
        by_part[part] += count
    print(f"\nseed {SEED}, {'PostgreSQL' if ON_POSTGRES else 'SQLite'}: {done.total()} faults in {SECONDS:.0f} s")
    for name, counts in (("signals", by_signal), ("parts", by_part)):
        print(f"{name:>10}: " + ", ".join(f"{key} {count}" for key, count in counts.most_common()))
    for jobs in ("runs", "evaluations", "sweeps"):
        states = tables.rows(f"SELECT state, count(*) FROM {jobs} GROUP BY state ORDER BY state")
        print(f"{jobs:>10}: " + ", ".join(f"{state} {count}" for state, count in states))
    print(f"{acknowledged} runs acknowledged; all ended {drained:.1f} s after the last fault; {len(found)} violations")
