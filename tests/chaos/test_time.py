"""Leases end when a worker is gone, and only then: clocks that jump, a registry or a database that stands still."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fixtures.nats import NatsServer
from tests.fixtures.registry_process import LEASE_SECONDS, RegistryProcess, Worker, registry_process

from tunix_rt.registry.kernel.vitals import PATIENCE_SECONDS

# Moves the real-time clock of a process by the seconds in a file, and no other clock: libfaketime breaks time.sleep.
SHIFTED_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    char text[32] = {0};
    int file = open(getenv("SHIFTED_CLOCK"), O_RDONLY);
    if (file < 0) return 0;
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    return size > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *found) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, found);
    if (!failed && clock == CLOCK_REALTIME) found->tv_sec += shift();
    return failed;
}
"""
# A dead worker's lease, a round of the reaper, and what a busy machine adds.
REPLACED_SECONDS = 30.0


@pytest.fixture
def registry(tmp_path: Path, nats: NatsServer) -> Iterator[RegistryProcess]:
    with registry_process(tmp_path, nats) as running:
        yield running


@pytest.fixture
def shifted(tmp_path: Path, nats: NatsServer) -> Iterator[tuple[RegistryProcess, Callable[[int], None]]]:
    """A registry, and what moves its machine's clock."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler for the clock")
    library, clock, source = tmp_path / "clock.so", tmp_path / "clock", tmp_path / "clock.c"
    source.write_text(SHIFTED_CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)

    def shift(by: int) -> None:
        clock.with_suffix(".new").write_text(str(by))
        clock.with_suffix(".new").rename(clock)

    environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(clock)}
    with registry_process(tmp_path, nats, **environment) as running:
        yield running, shift


def healthy(registry: RegistryProcess, worker: Worker, seconds: float) -> None:
    """The worker keeps its lease for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert worker.refusals == []
        time.sleep(0.2)
    (attempt,) = registry.attempts(worker.claim.lease.job_id)
    assert attempt.id == worker.claim.lease.attempt_id


def replaced(registry: RegistryProcess, run_id: str) -> float:
    """Seconds until another worker gets the run."""
    another: list[Worker] = []

    def claim() -> bool:
        another.append(Worker(registry, run_id))
        return another[-1].granted

    seconds = registry.until(claim, REPLACED_SECONDS)
    another[-1].die()
    return seconds


@pytest.mark.fault("clock of the registry jumps by")
@pytest.mark.parametrize("step", [3600, -3600])
def test_a_clock_that_jumps_takes_no_lease_and_gives_none(
    shifted: tuple[RegistryProcess, Callable[[int], None]], step: int
) -> None:
    registry, shift = shifted
    alive, dead = (Worker(registry, registry.create(max_attempts=2)) for _ in range(2))
    shift(step)
    shifted_run = registry.get(registry.create())
    assert abs(shifted_run.create_time.seconds - time.time() - step) < 60
    dead.die()
    healthy(registry, alive, 2 * LEASE_SECONDS)
    replaced(registry, dead.claim.lease.job_id)
    assert alive.refusals == []
    alive.die()


@pytest.mark.fault("registry: stopped for two leases")
@pytest.mark.slow
def test_a_registry_that_stood_still_takes_no_lease(registry: RegistryProcess) -> None:
    worker = Worker(registry, registry.create(max_attempts=1))
    registry.signal(signal.SIGSTOP)
    time.sleep(2 * LEASE_SECONDS)
    registry.signal(signal.SIGCONT)
    healthy(registry, worker, 2 * LEASE_SECONDS)
    worker.die()
    registry.until(lambda: registry.get(worker.claim.lease.job_id).message != "", REPLACED_SECONDS)


@pytest.mark.fault("SQLite: locked by another for two leases")
@pytest.mark.slow
def test_a_database_that_stood_still_takes_no_lease(registry: RegistryProcess, tmp_path: Path) -> None:
    worker = Worker(registry, registry.create(max_attempts=1))
    foreign = sqlite3.connect(tmp_path / "registry.sqlite", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    registry.until(lambda: registry.health() == "NOT_SERVING", 2 * LEASE_SECONDS + PATIENCE_SECONDS)
    foreign.execute("ROLLBACK")
    registry.until(lambda: registry.health() == "SERVING", 10)
    foreign.close()
    healthy(registry, worker, 2 * LEASE_SECONDS)
    worker.die()


@pytest.mark.fault("registry: killed, away for two leases")
@pytest.mark.slow
def test_a_registry_that_was_killed_takes_no_lease(registry: RegistryProcess) -> None:
    worker = Worker(registry, registry.create(max_attempts=1))
    registry.signal(signal.SIGKILL)
    time.sleep(2 * LEASE_SECONDS)
    registry.start()
    healthy(registry, worker, 2 * LEASE_SECONDS)
    worker.die()
