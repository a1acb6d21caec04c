"""`kill -9` of any service or of nats-server in the middle of the demo does not change what it finds, item by item.

By default a shortened demo in which all six die once. ``TUNIX_RT_CHAOS=full`` takes the demo as users run it, and
``TUNIX_RT_CHAOS=each`` a shortened demo per part, in which only that part dies (`make chaos` runs both).
"""

import io
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tunix_rt.cli.demo.plan import DemoPlan, RunPlan, plan_for
from tunix_rt.cli.demo.report import Report
from tunix_rt.cli.demo.result import DemoResult, Trained
from tunix_rt.cli.demo.steps import run_demo
from tunix_rt.client import Evaluation, JobState, Run, TunixClient
from tunix_rt.local import LocalPlatform

pytestmark = pytest.mark.slow

PARTS = ("trainer", "registry", "nats", "inferencer", "evaluator", "tuner")
CHAOS = os.environ.get("TUNIX_RT_CHAOS", "")
STORMS = [(part,) for part in PARTS] if CHAOS == "each" else [PARTS]


def shortened(plan: DemoPlan) -> DemoPlan:
    """The demo's plan with fewer steps and frequent checkpoints; everything else as a user runs it."""
    if CHAOS == "full":
        return plan

    def fewer(run: RunPlan, steps: int) -> RunPlan:
        return RunPlan(run.name, {**run.hyperparameters, "max_steps": steps, "warmup_steps": 5, "save_steps": 20})

    sweep = replace(
        plan.sweep, hyperparameters={**plan.sweep.hyperparameters, "max_steps": 10, "warmup_steps": 2, "save_steps": 0}
    )
    return replace(
        plan, dataset_size=1000, short=fewer(plan.short, 20), long=fewer(plan.long, 160), sweep=sweep, expectation=None
    )


class Killer(threading.Thread):
    """Kills each of ``parts`` once, when the demo is in the middle of what that part is needed for."""

    def __init__(self, platform: LocalPlatform, parts: tuple[str, ...]) -> None:
        super().__init__(name="killer", daemon=True)
        self._platform, self._parts = platform, parts
        self._client = TunixClient(home=platform.home, outage_seconds=60)
        self.stop = threading.Event()
        self.killed: list[str] = []

    def run(self) -> None:
        moments: list[tuple[str, Callable[[], bool]]] = [
            ("trainer", lambda: self._long_run_is_at(25)),
            ("registry", lambda: self._long_run_is_at(50)),
            ("nats", lambda: self._long_run_is_at(70)),
            ("inferencer", lambda: self._evaluation_has_done(5)),
            ("evaluator", lambda: self._evaluation_has_done(10)),
            ("tuner", self._a_trial_runs),
        ]
        for part, moment in moments:
            if part not in self._parts:
                continue
            while not moment():
                if self.stop.wait(0.1):
                    return
            self._kill(part)

    def _kill(self, part: str) -> None:
        pid = self._platform.pid(part)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.killed.append(part)
        deadline = time.monotonic() + 60
        while self._platform.pid(part) in (pid, None) and time.monotonic() < deadline:
            self.stop.wait(0.1)

    def _long_run(self) -> Run | None:
        return next(iter(self._client.runs.list(filter='tags.run = "B"', limit=1)), None)

    def _long_run_is_at(self, percent: int) -> bool:
        run = self._long_run()
        return run is not None and 100 * run.progress.done >= percent * run.spec.hyperparameters.max_steps

    def _evaluation_has_done(self, items: int) -> bool:
        run = self._long_run()
        if run is None or not run.evaluation_ids:
            return False
        evaluation: Evaluation = self._client.evaluations.get(run.evaluation_ids[0])
        return evaluation.progress.done >= items or evaluation.state is JobState.SUCCEEDED

    def _a_trial_runs(self) -> bool:
        return any(sweep.n_trials for sweep in self._client.sweeps.list())


def demo_on(platform: LocalPlatform) -> DemoResult:
    report = Report(Console(file=io.StringIO()))
    with TunixClient(home=platform.home, outage_seconds=120) as client:
        return run_demo(client, shortened(plan_for("preset://tiny")), report, seed=7)


def found(trained: Trained) -> tuple[object, ...]:
    score = trained.score
    return trained.model_digest, trained.loss_first, trained.loss_last, score.primary_score, score.items


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    with LocalPlatform(tmp_path_factory.mktemp("calm"), ports="free") as platform:
        return demo_on(platform)


@pytest.fixture(scope="module", params=STORMS, ids="+".join)
def disturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DemoResult, list[str], dict[str, int]]:
    home: Path = tmp_path_factory.mktemp("storm")
    with LocalPlatform(home, ports="free") as platform:
        killer = Killer(platform, request.param)
        killer.start()
        try:
            result = demo_on(platform)
        finally:
            killer.stop.set()
            killer.join(timeout=70)
        return result, killer.killed, {part: platform.restarts(part) for part in PARTS}


@pytest.mark.timeout(1800)
def test_every_part_was_killed_once_and_came_back(
    request: pytest.FixtureRequest, disturbed: tuple[DemoResult, list[str], dict[str, int]]
) -> None:
    _, killed, restarts = disturbed
    parts = request.node.callspec.params["disturbed"]
    assert killed == list(parts)
    assert restarts == {part: int(part in parts) for part in PARTS}


@pytest.mark.fault("demo: kill -9 of")
@pytest.mark.timeout(1800)
def test_the_same_seed_finds_the_same_whatever_was_killed(
    undisturbed: DemoResult, disturbed: tuple[DemoResult, list[str], dict[str, int]]
) -> None:
    result = disturbed[0]
    assert found(result.a) == found(undisturbed.a)
    assert found(result.b) == found(undisturbed.b)
    assert result.comparison == undisturbed.comparison
    assert result.gate_b_against_a == undisturbed.gate_b_against_a
    assert result.gate_a_against_b == undisturbed.gate_a_against_b
    assert result.sweep.trials == undisturbed.sweep.trials
    assert result.sweep.best == undisturbed.sweep.best
    assert result.answer == undisturbed.answer
    assert len(result.sweep.trials) == 3
