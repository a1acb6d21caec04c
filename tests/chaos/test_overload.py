"""An overloaded registry keeps what workers hold, refuses what it cannot do in time, and loses nothing that it has
acknowledged.

``pytest -m slow -s tests/chaos/test_overload.py`` prints its figures. Callers, workers and the registry share this
machine, which in use they do not: large crowds run at a lower priority than the registry and the small crowd, whose
times are judged.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.conftest import TOKEN, Stack, until
from tests.fixtures.crowd import Crowd
from tests.fixtures.lease_holders import Held

from tunix_rt.client import TunixClient
from tunix_rt.local.ports import free_ports
from tunix_rt.rpc.health import ask_health
from tunix_rt.rpc.settings import TlsSettings
from tunix_rt.v1 import common_pb2, runs_pb2

ACCEPTED_P99_SECONDS = 2.0
LEASE_SECONDS = 15
SMALL_CROWD = 100


class Overloaded:
    """A registry with metrics, and what the tests start around it."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.metrics_port = free_ports(["metrics"])["metrics"]
        self.stack = Stack(home, TUNIX_RT_METRICS_PORT=str(self.metrics_port), **settings)
        self.address = f"127.0.0.1:{self.stack.registry_port}"

    def create_runs(self, count: int, pool: str, **hyperparameters: object) -> list[str]:
        spec = runs_pb2.RunSpec(
            base_model="preset://tiny",
            dataset_id=self.stack.dataset.id,
            pool=pool,
            max_attempts=1,
            hyperparameters=runs_pb2.Hyperparameters(max_seq_length=64, overlong="truncate", **hyperparameters),
        )
        requests = [runs_pb2.CreateRunRequest(request_id=str(uuid.uuid4()), spec=spec) for _ in range(count)]
        return [self.stack.runs.CreateRun(request).id for request in requests]

    def tokens(self, count: int) -> list[str]:
        """Of editors."""
        with TunixClient(self.address, TOKEN) as client:
            names = [f"caller-{number}" for number in range(count)]
            for name in names:
                client.access.create(name, ["editor"])
            return [client.access.create_token(name).secret for name in names]

    @contextmanager
    def holders(self, runs: Sequence[str]) -> Iterator[Callable[[], Held]]:
        """Workers that hold ``runs``; what is called in the block ends them, and says how they fared."""
        command = [sys.executable, "-m", "tests.fixtures.lease_holders", self.address, *runs]
        with started(command, TUNIX_RT_TOKEN=TOKEN) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield lambda: Held(**json.loads(process.communicate()[0].splitlines()[-1]))

    def crowd(self, *sizes: tuple[int, int], seconds: float, **of_each: Any) -> list[dict[str, Any]]:
        """What crowds of these sizes saw, each a process. Meanwhile health and metrics are asked
        for."""
        with ExitStack() as stack:
            running = []
            for callers, watchers in sizes:
                running.append(stack.enter_context(started([sys.executable, "-m", "tests.fixtures.crowd"])))
                if callers > SMALL_CROWD:
                    psutil.Process(running[-1].pid).nice(15)
                crowd = Crowd(
                    address=self.address,
                    dataset=self.stack.dataset.id,
                    callers=callers,
                    watchers=watchers,
                    seconds=seconds,
                    **of_each,
                )
                stdin = running[-1].stdin
                assert stdin is not None
                stdin.write(json.dumps(asdict(crowd)))
                stdin.close()
                running[-1].stdin = None
            self.watched: list[tuple[str, float, float]] = []
            end = time.monotonic() + seconds
            while (begin := time.monotonic()) < end:
                health, _ = ask_health(self.address, TlsSettings(), timeout_seconds=10)
                answered = time.monotonic()
                self.scraped = self.scrape()
                self.watched.append((health, answered - begin, time.monotonic() - answered))
                time.sleep(0.5)
            return [json.loads(each.communicate()[0]) for each in running]

    def scrape(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            return str(answer.read(), "utf-8")

    def shed(self, lane: str) -> float:
        lines = [line for line in self.scraped.splitlines() if line.startswith("tunix_rt_calls_shed_total")]
        return sum(float(line.rpartition(" ")[2]) for line in lines if f'lane="{lane}"' in line)

    def missing(self, created: Sequence[str]) -> list[str]:
        """Of runs whose creation was acknowledged, those that are not there."""
        with TunixClient(self.address, TOKEN) as client:
            there = {run.id for run in client.runs.list(page_size=1000)}
        return sorted(set(created) - there)

    def attempts(self, runs: Sequence[str]) -> list[int]:
        return [len(self.stack.attempts(run)) for run in runs]

    def close(self) -> None:
        self.stack.close()


@contextmanager
def started(command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def p99(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98] if len(seconds) > 1 else max(seconds, default=0.0)


def figures(overloaded: Overloaded, seen: Sequence[dict[str, Any]], held: Held, seconds: float) -> dict[str, Any]:
    """What is printed, and judged. Times are those of the last crowd, which is small: what a process with a thousand
    callers measures is how long it takes itself to get to its answers."""
    accepted = seen[-1]["seconds"]
    codes = sum((Counter(one["codes"]) for one in seen), Counter[str]())
    return {
        "accepted a second": round(codes["OK"] / seconds, 1),
        "accepted p50, p99 [s]": (round(statistics.median(accepted), 3), round(p99(accepted), 3)),
        "codes": dict(codes),
        "watchers, updates": (sum(one["watching"] for one in seen), sum(one["updates"] for one in seen)),
        "broken streams": dict(sum((Counter(one["broken"]) for one in seen), Counter[str]())),
        "refused without RetryInfo": sum(one["without_retry_info"] for one in seen),
        "acknowledged runs": sum(len(one["created"]) for one in seen),
        "shed: calls, control": (overloaded.shed("calls"), overloaded.shed("control")),
        "heartbeats, p50, p99 [s]": (
            len(held.beats),
            round(statistics.median(held.beats), 3),
            round(p99(held.beats), 3),
        ),
        "heartbeats failed, longest silence [s]": (held.failed, round(held.longest_silence, 2)),
        "health and metrics, longest [s]": (
            round(max(each[1] for each in overloaded.watched), 2),
            round(max(each[2] for each in overloaded.watched), 2),
        ),
        "load of the machine, cores": (round(os.getloadavg()[0], 1), psutil.cpu_count()),
    }


def judge(overloaded: Overloaded, found: dict[str, Any], seen: Sequence[dict[str, Any]], held: Held) -> None:
    """Nothing was lost, and all were answered."""
    assert held.lost == []
    assert held.longest_silence < LEASE_SECONDS
    assert set(found["codes"]) <= {"OK", "RESOURCE_EXHAUSTED"}, found["codes"]
    assert found["refused without RetryInfo"] == 0
    assert found["broken streams"] == {}
    assert {each[0] for each in overloaded.watched} == {"SERVING"}
    assert overloaded.missing([run for one in seen for run in one["created"]]) == []


@pytest.fixture
def overloaded(tmp_path: Path) -> Iterator[Overloaded]:
    running = Overloaded(tmp_path, TUNIX_RT_LEASE_SECONDS=str(LEASE_SECONDS))
    yield running
    running.close()


@pytest.mark.timeout(120)
def test_a_crowd_that_does_not_give_way_takes_no_lease(overloaded: Overloaded) -> None:
    """300 callers who come back at once when they are refused, and 100 watchers."""
    runs = overloaded.create_runs(4, "held")
    tokens = overloaded.tokens(2)
    with overloaded.holders(runs) as end:
        seen = overloaded.crowd((280, 95), (20, 5), tokens=tokens, runs=runs, seconds=6.0, rude=True)
        held = end()
    found = figures(overloaded, seen, held, 6.0)
    print(json.dumps(found, indent=2))
    judge(overloaded, found, seen, held)
    assert overloaded.attempts(runs) == [1] * len(runs)


@pytest.mark.timeout(120)
def test_a_registry_with_few_places_and_more_watchers_keeps_its_workers_and_begins_a_run(tmp_path: Path) -> None:
    overloaded = Overloaded(tmp_path, TUNIX_RT_LEASE_SECONDS=str(LEASE_SECONDS), TUNIX_RT_MAX_CONCURRENT_RPCS="24")
    try:
        runs, queued = overloaded.create_runs(4, "held"), overloaded.create_runs(1, "held")
        tokens = overloaded.tokens(2)
        with overloaded.holders(runs) as end:
            seen = overloaded.crowd((60, 30), tokens=tokens, runs=runs, seconds=3.0, rude=True)
            with overloaded.holders(queued) as end_of_queued:
                assert end_of_queued().lost == []
            assert end().lost == []
        assert 0 < seen[0]["watching"] <= 24
        assert overloaded.missing(seen[0]["created"]) == []
        assert overloaded.attempts([*runs, *queued]) == [1] * 5
    finally:
        overloaded.close()


@pytest.mark.slow
@pytest.mark.fault("2,000 callers and 1,000 watchers")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rude", [False, True], ids=["polite", "rude"])
def test_2000_callers_and_1000_watchers_take_no_lease_and_fail_no_job(tmp_path: Path, rude: bool) -> None:
    seconds = 60.0
    overloaded = Overloaded(tmp_path, TUNIX_RT_LEASE_SECONDS=str(LEASE_SECONDS))
    trainer = overloaded.stack.start_trainer(TUNIX_RT_METRICS_PORT="0")
    try:
        runs, watched = overloaded.create_runs(20, "held"), overloaded.create_runs(30, "nobody")
        tokens = overloaded.tokens(8)
        trained = overloaded.create_runs(3, "cpu", max_steps=20, per_device_batch_size=1)
        with overloaded.holders(runs) as end:
            until("the first run", lambda: overloaded.stack.attempts(trained[0]) != [])
            sizes = (960, 490), (960, 490), (80, 20)
            seen = overloaded.crowd(*sizes, tokens=tokens, runs=[*runs, *watched], seconds=seconds, rude=rude)
            held = end()
        found = figures(overloaded, seen, held, seconds)
        states = [overloaded.stack.finished(run).state for run in trained]
        print(json.dumps(found | {"rude": rude, "attempts": overloaded.attempts([*runs, *trained])}, indent=2))
        judge(overloaded, found, seen, held)
        assert states == [common_pb2.JOB_STATE_SUCCEEDED] * len(trained)
        assert overloaded.attempts([*runs, *trained]) == [1] * len(runs + trained)
        assert found["watchers, updates"][0] >= 1000
        # Callers who come back at once wait for each other.
        assert rude or found["accepted p50, p99 [s]"][1] <= ACCEPTED_P99_SECONDS
    finally:
        trainer.stop()
        overloaded.close()
