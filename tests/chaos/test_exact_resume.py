"""`kill -9` at 20 random moments of 200 steps does not change a run: same parameters, same rows, none twice.

Through the platform: NATS, registry, trainers and training processes are real. Each variant takes its 20 kills in two
runs at a time on two trainers; every fifth kill takes the whole trainer, the others its training process.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tunix_rt.v1 import common_pb2, models_pb2, models_pb2_grpc, runs_pb2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

STEPS = 200
KILLS = 20
RUNS = 2
TIMINGS = {"tokens_per_second", "step_time", "mfu", "peak_memory_bytes"}
COMMON = {"max_steps": STEPS, "save_steps": 10, "max_seq_length": 48, "seed": 11, "warmup_steps": 10}
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"lora": runs_pb2.LoraConfig(rank=4, alpha=8.0, dropout=0.1)},
    "accumulation": {"gradient_accumulation_steps": 3, "packing": True, "max_seq_length": 96, "eval_steps": 50},
    "mesh": {"mesh": runs_pb2.Mesh(fsdp=2, tensor=2), "per_device_batch_size": 1},
}
# Rows go out at once and leases are short, so that kills fall between as many states as possible.
SETTINGS = {"TUNIX_RT_REPORT_SECONDS": "0.1", "TUNIX_RT_HEARTBEAT_SECONDS": "0.5"}


class Trainers:
    """Two trainers on the stack; a killed one is replaced."""

    def __init__(self, stack: Any, settings: dict[str, str]) -> None:
        self._stack, self._settings = stack, settings
        self._turn = threading.Lock()
        self._running = [self._start(), self._start()]

    def _start(self) -> Any:
        return self._stack.start_trainer(**self._settings)

    def child_of(self, run_id: str) -> tuple[int, psutil.Process] | None:
        """The training process that works on a run now, and the index of its trainer."""
        with self._turn:
            for index, trainer in enumerate(self._running):
                for child in _children(trainer):
                    with contextlib.suppress(psutil.Error, OSError, ValueError):
                        job = json.loads(Path(child.cmdline()[3]).read_text())
                        if job["run_id"] == run_id:
                            return index, child
        return None

    def kill(self, index: int) -> None:
        """`kill -9` of a trainer; another takes its place."""
        with self._turn:
            self._running[index].process.kill()
            self._running[index].process.wait()
            self._running[index].stop()
            self._running[index] = self._start()

    def close(self) -> None:
        for trainer in self._running:
            trainer.stop()


def _children(trainer: Any) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return trainer.children()  # type: ignore[no-any-return]
    return []


def disturb(stack: Any, trainers: Trainers, run_id: str, kills: int, seed: str) -> int:
    """Kill what trains ``run_id`` at ``kills`` random moments; returns how many kills found their process."""
    source = random.Random(seed)
    # Late enough kills leave no time for the next one; one in four strikes while a process starts, loads or compiles.
    moments = sorted(source.randrange(1, STEPS * 4 // 5) for _ in range(kills))
    done = 0
    for number, step in enumerate(moments):
        early = source.random() < 0.25
        delay = source.uniform(0, 3.0) if early else source.uniform(0, 0.1)
        found = _await_child(stack, trainers, run_id)
        while not early and found is not None and _steps(stack, run_id) < step:
            time.sleep(0.03)
            found = trainers.child_of(run_id)
            found = found if found is not None else _await_child(stack, trainers, run_id)
        time.sleep(delay)
        if found is None or not found[1].is_running():
            continue
        if number % 5 == 4:
            trainers.kill(found[0])
        else:
            found[1].kill()
        done += 1
        stack.until("the end of the killed process", lambda child=found[1]: not child.is_running(), 10)
    return done


def _await_child(stack: Any, trainers: Trainers, run_id: str) -> tuple[int, psutil.Process] | None:
    """The process that works on the run, once there is one; None when the run has ended."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = trainers.child_of(run_id)
        if found is not None:
            return found
        if stack.run(run_id).state in (common_pb2.JOB_STATE_SUCCEEDED, common_pb2.JOB_STATE_FAILED):
            return None
        time.sleep(0.05)
    raise AssertionError(f"nobody works on {run_id}")


def _steps(stack: Any, run_id: str) -> int:
    return max(stack.metrics(run_id, "loss"), default=0)


def rows(stack: Any, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Every point of the run but the timings, by key, in the order of steps."""
    found: dict[str, list[tuple[int, float]]] = {}
    token = ""
    while True:
        answer = stack.runs.ListMetrics(
            runs_pb2.ListMetricsRequest(run_id=run_id, page_size=1000, page_token=token), timeout=30
        )
        for point in answer.points:
            if point.key not in TIMINGS:
                found.setdefault(point.key, []).append((point.step, point.value))
        token = answer.next_page_token
        if not token:
            return {key: sorted(points) for key, points in found.items()}


def digest(stack: Any, run: runs_pb2.Run) -> tuple[str, str]:
    """Of the exported files, and of the trained parameters' bytes."""
    models: models_pb2_grpc.ModelServiceStub = models_pb2_grpc.ModelServiceStub(stack.channel)
    model = models.GetModel(models_pb2.GetModelRequest(id=run.model_id))
    return model.artifact.digest, model.lineage.details["parameters_digest"]


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def trainers(stack: Any, variant: str) -> Iterator[Trainers]:
    simulated = {"TUNIX_RT_SIMULATED_DEVICES": "4"} if variant == "mesh" else {}
    running = Trainers(stack, {**SETTINGS, **simulated})
    yield running
    running.close()


def test_killed_at_twenty_random_moments_a_run_ends_as_if_undisturbed(
    stack: Any, trainers: Trainers, variant: str
) -> None:
    began = time.monotonic()
    spec = {**COMMON, **VARIANTS[variant], "max_attempts": 20}
    undisturbed = stack.finished(stack.create_run(**spec), 400)
    assert undisturbed.state == common_pb2.JOB_STATE_SUCCEEDED, undisturbed.message
    expected = rows(stack, undisturbed.id)
    assert [step for step, _ in expected["loss"]] == list(range(1, STEPS + 1))
    calm = time.monotonic() - began
    run_ids = [stack.create_run(**spec) for _ in range(RUNS)]
    with ThreadPoolExecutor(RUNS) as pool:
        kills = pool.map(
            lambda item: disturb(stack, trainers, item[1], KILLS // RUNS, f"{variant} {item[0]}"), enumerate(run_ids)
        )
        killed = sum(kills)
    finished = [stack.finished(run_id, 600) for run_id in run_ids]
    stormy = time.monotonic() - began - calm
    print(f"{variant}: undisturbed {calm:.1f} s, {killed} kills in {RUNS} runs {stormy:.1f} s")
    for run in finished:
        assert run.state == common_pb2.JOB_STATE_SUCCEEDED, (run.message, stack.logs(run.id)[-20:])
        assert digest(stack, run) == digest(stack, undisturbed)
        assert rows(stack, run.id) == expected
    outcomes = [outcome for run in finished for outcome in stack.attempts(run.id)]
    assert killed == KILLS
    assert outcomes.count("FAILED") + outcomes.count("LOST") == KILLS
