"""`kill -9` at 20 random moments of a sweep changes nothing of it: the same trials, each trained once, the same best.

TPE learns from the trials' results, so that one lost, doubled or reordered result would change every later suggestion.
Any of the tuner, the trainer, the registry, nats-server, Ray's processes and the training process may die.
"""

import contextlib
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tunix_rt.client import JobState, TunixClient
from tunix_rt.local import LocalPlatform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

KILLS = 20
TRIALS = 10
STEPS = 120
SERVICES = ("tuner", "trainer", "registry", "nats")
# Parts of command lines of the processes below the tuner and the trainer, by what they are called here.
BELOW = {
    "Ray worker": ("ray::", "default_worker.py"),
    "Ray driver": ("tunix_rt.tuner.ray_driver",),
    "Ray's raylet": ("raylet/raylet",),
    "training process": ("tunix_rt.trainer.child",),
}
# Leases are short, so that a successor comes soon.
SETTINGS = {"TUNIX_RT_LEASE_SECONDS": "5", "TUNIX_RT_REAP_SECONDS": "0.5", "TUNIX_RT_HEARTBEAT_SECONDS": "0.5"}
BASE = {
    "base_model": "preset://tiny",
    "hyperparameters": {
        "max_steps": STEPS,
        "warmup_steps": 5,
        "per_device_batch_size": 4,
        "max_seq_length": 64,
        "save_steps": 10,
        "logging_steps": 1,
        "seed": 5,
    },
    "max_attempts": 20,
}
SPACE = {
    "learning_rate": {"loguniform": {"low": 1e-4, "high": 1e-2}},
    "weight_decay": {"uniform": {"low": 0.0, "high": 0.1}},
    "adam_beta2": [0.95, 0.99, 0.999],
}


@dataclass
class Found:
    """A finished sweep: what each trial was and came to, and how often each step of it was recorded."""

    state: JobState = JobState.UNSPECIFIED
    message: str = ""
    parameters: list[dict[str, object]] = field(default_factory=list)
    objectives: list[float] = field(default_factory=list)
    observed: list[list[int]] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    recorded_steps: list[list[int]] = field(default_factory=list)
    runs: int = 0
    best: int = -1


def sweep_on(platform: LocalPlatform, seed: int) -> Found:
    """The sweep, from its creation to its end."""
    with TunixClient(home=platform.home, outage_seconds=180) as client:
        dataset = client.datasets.build("arith-v1", size=300)
        sweep = client.sweeps.create(
            {"tpe": {"startup_trials": 3}},
            base={**BASE, "dataset_id": dataset.id},
            parameters=SPACE,
            algorithm="tpe",
            num_samples=TRIALS,
            max_concurrent_trials=2,
            objective={"metric": "loss", "mode": "OBJECTIVE_MODE_MIN"},
            seed=seed,
            max_attempts=20,
        )
        ended = client.sweeps.wait(sweep.id, timeout_seconds=2100)
        trials = list(client.sweeps.trials(sweep.id, page_size=1000))
        return Found(
            state=ended.state,
            message=ended.message,
            parameters=[trial.parameters for trial in trials],
            objectives=[trial.objective for trial in trials],
            observed=[list(trial.observed) for trial in trials],
            models=[client.models.get(client.runs.get(trial.run_id).model_id).artifact.digest for trial in trials],
            recorded_steps=[
                [point.step for point in client.runs.metrics(trial.run_id, keys=["loss"])] for trial in trials
            ],
            runs=len(list(client.runs.list(filter=f'sweep_id = "{sweep.id}"'))),
            best=next(trial.number for trial in trials if trial.id == ended.best_trial_id),
        )


class Killer(threading.Thread):
    """Kills ``KILLS`` processes at random moments once the sweep has begun."""

    def __init__(self, platform: LocalPlatform, seed: int) -> None:
        super().__init__(name="killer", daemon=True)
        self._platform, self._random = platform, random.Random(seed)
        self._client = TunixClient(home=platform.home, outage_seconds=120)
        self.stop = threading.Event()
        self.killed: list[str] = []

    def run(self) -> None:
        while not any(sweep.n_trials for sweep in self._client.sweeps.list()):
            if self.stop.wait(0.1):
                return
        # Every kind once, then whatever comes.
        kinds = [*SERVICES, *BELOW]
        self._random.shuffle(kinds)
        kinds += [self._random.choice(kinds) for _ in range(KILLS)]
        while len(self.killed) < KILLS and not self.stop.wait(self._random.uniform(1.0, 4.0)):
            kind = kinds[len(self.killed)]
            deadline = time.monotonic() + 60
            while not self._kill(kind) and time.monotonic() < deadline:
                if self.stop.wait(0.05):
                    return
            self.killed.append(kind)

    def _kill(self, kind: str) -> bool:
        if kind in SERVICES:
            pid = self._platform.pid(kind)
            if pid is None:
                return False
            os.kill(pid, signal.SIGKILL)
            return True
        for process in psutil.Process(os.getpid()).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if any(mark in line for mark in BELOW[kind]):
                    process.kill()
                    return True
        return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Found:
    with LocalPlatform(tmp_path_factory.mktemp("calm"), ports="free", environment=SETTINGS) as platform:
        return sweep_on(platform, seed=3)


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, list[str]]:
    home: Path = tmp_path_factory.mktemp("storm")
    with LocalPlatform(home, ports="free", environment=SETTINGS) as platform:
        killer = Killer(platform, seed=int(os.environ.get("TUNIX_RT_CHAOS_SEED", "1")))
        killer.start()
        try:
            found = sweep_on(platform, seed=3)
        finally:
            killer.stop.set()
            killer.join(timeout=120)
        print("killed:", ", ".join(killer.killed))
        return found, killer.killed


@pytest.mark.fault("sweep: 20 kills of tuner, trainer, Ray and more")
def test_the_sweep_succeeds_after_twenty_kills_of_every_kind(disturbed: tuple[Found, list[str]]) -> None:
    found, killed = disturbed
    assert found.state is JobState.SUCCEEDED, found.message
    assert len(killed) == KILLS
    assert set(killed) == {*SERVICES, *BELOW}


def test_every_trial_exists_once_and_was_trained_once_to_its_end(disturbed: tuple[Found, list[str]]) -> None:
    found = disturbed[0]
    assert found.runs == TRIALS
    assert len(found.parameters) == TRIALS
    assert found.recorded_steps == [list(range(1, STEPS + 1))] * TRIALS


def test_parameters_results_and_the_best_are_those_of_the_undisturbed_sweep(
    undisturbed: Found, disturbed: tuple[Found, list[str]]
) -> None:
    found = disturbed[0]
    assert found.parameters == undisturbed.parameters
    assert found.observed == undisturbed.observed
    assert found.objectives == undisturbed.objectives
    assert found.models == undisturbed.models
    assert found.best == undisturbed.best


def test_the_search_learned_from_results(undisturbed: Found) -> None:
    told = [number for numbers in undisturbed.observed for number in numbers]
    assert told == list(range(TRIALS - 2))  # in order of number, two at a time
