"""What a trial costs through the platform beside bare Ray Tune, with a stub objective, in one run.

    make bench-tuning                     1,000 trials, 4 at once
    python overhead.py --trials 100 --rounds 1

Ours: a real registry (SQLite), NATS JetStream, tuner with Ray Tune, and a trainer that reports an objective at once.
Bare: Ray Tune alone with the same space, concurrency and objective. A trial's cost is the time from the end of the
first trials (Ray has started by then) to the end of the last, by trial. They take turns. Run it with nothing else
running.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from stub_trainer import OBJECTIVE

from tunix_rt.client import JobState, TunixClient
from tunix_rt.local import LocalPlatform

HERE = Path(__file__).parent
STUB_WORKERS = 4
DRIVER = "tunix_rt.tuner.ray_driver"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Sweep:
    """One sweep as measured: when trials ended (s, sorted), and the driver's memory (bytes) at its begin and end."""

    ends: Sequence[float]
    first_memory: int
    last_memory: int
    driver_cpu_seconds: float | None = None

    def milliseconds(self, skipped: int) -> float:
        """Time per trial after the first ``skipped``."""
        return 1e3 * (self.ends[-1] - self.ends[skipped - 1]) / (len(self.ends) - skipped)


class DriverWatch(threading.Thread):
    """Samples the memory and the processor time of Ray's driver once a second."""

    def __init__(self, ancestor: int) -> None:
        super().__init__(daemon=True)
        self._ancestor = ancestor
        self._over = threading.Event()
        self.memory: list[int] = []
        self.cpu_seconds = 0.0

    def run(self) -> None:
        driver: psutil.Process | None = None
        while not self._over.wait(1.0):
            try:
                driver = driver if driver is not None and driver.is_running() else self._find()
                if driver is not None:
                    self.memory.append(driver.memory_info().rss)
                    used = driver.cpu_times()
                    self.cpu_seconds = used.user + used.system
            except psutil.NoSuchProcess:
                driver = None

    def _find(self) -> psutil.Process | None:
        for process in psutil.Process(self._ancestor).children(recursive=True):
            if DRIVER in process.cmdline():
                return process
        return None

    def end(self) -> None:
        self._over.set()
        self.join()


@contextmanager
def stub_trainer(platform: LocalPlatform) -> Iterator[None]:
    """A stub trainer on the platform."""
    environment = {
        "TUNIX_RT_HOME": str(platform.home),
        "TUNIX_RT_TOKEN_FILE": str(platform.home / "tokens" / "trainer"),
        "TUNIX_RT_REGISTRY_ADDRESS": platform.addresses["registry"],
        "TUNIX_RT_NATS_URL": platform.nats_url,
        "TUNIX_RT_NATS_SEED_FILE": str(platform.nats_seed_path("trainer")),
    }
    command = [sys.executable, str(HERE / "stub_trainer.py"), str(STUB_WORKERS)]
    log = (platform.home / "stub-trainer.log").open("wb")
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def ours(trials: int, concurrency: int) -> Sweep:
    """The sweep through the platform."""
    with (
        tempfile.TemporaryDirectory() as home,
        LocalPlatform(home, ports="free", service_counts={"registry": 1, "tuner": 1}) as platform,
        stub_trainer(platform),
        TunixClient(home=platform.home) as client,
    ):
        dataset = client.datasets.build("arith-v1", size=20)
        watch = DriverWatch(os.getpid())
        watch.start()
        sweep = client.sweeps.create(
            base={"base_model": "preset://tiny", "dataset_id": dataset.id},
            parameters={
                "learning_rate": {"loguniform": {"low": 1e-4, "high": 1e-2}},
                "weight_decay": {"uniform": {"low": 0.0, "high": 0.1}},
            },
            num_samples=trials,
            max_concurrent_trials=concurrency,
            objective={"metric": OBJECTIVE, "mode": "OBJECTIVE_MODE_MAX"},
            seed=1,
        )
        ended = client.sweeps.wait(sweep.id, timeout_seconds=3600)
        watch.end()
        if ended.state is not JobState.SUCCEEDED or ended.n_succeeded != trials:
            raise SystemExit(f"the sweep ended with {ended}")
        ends = sorted(trial.end_time.timestamp() for trial in client.sweeps.trials(sweep.id, page_size=1000))
    # The first tenth of the samples holds the start.
    memory = watch.memory
    return Sweep(ends, memory[len(memory) // 10], memory[-1], watch.cpu_seconds)


def bare(trials: int, concurrency: int) -> Sweep:
    """The sweep in bare Ray Tune, in a process of its own."""
    command = [sys.executable, str(HERE / "bare_ray.py"), str(trials), str(concurrency)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return Sweep(sorted(found["ends"]), found["memory"][trials // 10], found["memory"][-1])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--trials", type=int, default=1000)
    arguments.add_argument("--concurrency", type=int, default=4)
    arguments.add_argument("--rounds", type=int, default=2)
    given = arguments.parse_args()
    skipped = max(2 * given.concurrency, given.trials // 50)
    sweeps: dict[str, list[Sweep]] = {"bare Ray Tune": [], "tunix-rt": []}
    for _ in range(given.rounds):
        for name, run in (("bare Ray Tune", bare), ("tunix-rt", ours)):
            sweeps[name].append(run(given.trials, given.concurrency))
            print(f"{name}: {sweeps[name][-1].milliseconds(skipped):.1f} ms a trial", file=sys.stderr, flush=True)
    table = Table(title=f"{given.trials} trials, {given.concurrency} at once, {os.cpu_count()} cores")
    for column in ("", "ms a trial (median)", "all rounds", "driver, MiB at 10 %", "at the end"):
        table.add_column(column, justify="right" if column else "left")
    medians = {}
    for name, rounds in sweeps.items():
        times = [sweep.milliseconds(skipped) for sweep in rounds]
        medians[name] = statistics.median(times)
        table.add_row(
            name,
            f"{medians[name]:.1f}",
            " ".join(f"{each:.1f}" for each in times),
            f"{rounds[-1].first_memory / MIB:.0f}",
            f"{rounds[-1].last_memory / MIB:.0f}",
        )
    console = Console(width=110)
    console.print(table)
    console.print(f"overhead: {medians['tunix-rt'] - medians['bare Ray Tune']:.1f} ms a trial (goal: at most 50)")
    console.print(f"driver: {sweeps['tunix-rt'][-1].driver_cpu_seconds:.0f} s of processor time in the last round")


if __name__ == "__main__":
    main()
