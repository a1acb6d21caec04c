"""Two real training processes that train one model together over Gloo, against one process with two devices."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from pathlib import Path

import pytest

from tunix_rt.artifacts import ArtifactStore
from tunix_rt.contract.hyperparameters import Hyperparameters, Mesh
from tunix_rt.traces.dataset import canonical_jsonl
from tunix_rt.traces.recipes import build
from tunix_rt.trainer.job import ArtifactRef, Job, Member, Standby
from tunix_rt.trainer.messages import (
    TIMING_KEYS,
    CheckpointWritten,
    Completed,
    Failed,
    FromChild,
    HandBack,
    HandedBack,
    MetricsMeasured,
)
from tunix_rt.trainer.process import TrainingProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Six steps on an fsdp mesh of two devices, one row each."""
    root = (tmp_path / "artifacts").as_uri()
    text = canonical_jsonl(build("golden-v2", size=24, seed=1))
    stored = ArtifactStore(root).put_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "work").mkdir()
    return Job(
        run_id="run-1",
        attempt=1,
        spec_digest="sha256:0",
        base_model="preset://tiny",
        dataset_id="ds-1",
        dataset=ArtifactRef(stored.uri, stored.digest),
        hyperparameters=Hyperparameters(
            per_device_batch_size=1,
            gradient_accumulation_steps=2,
            max_steps=6,
            save_steps=4,
            max_seq_length=32,
            overlong="truncate",
            mesh=Mesh(fsdp=2),
        ),
        artifacts_uri=root,
        work_dir=str(tmp_path / "work"),
        cache_dir=str(tmp_path / "cache"),
        compilation_cache=str(tmp_path / "cache" / "xla"),
    )


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def said(process: TrainingProcess, hand_back_at: int | None = None) -> list[FromChild]:
    """All messages of a training process, which is asked to stop once it has trained ``hand_back_at`` steps."""
    messages: list[FromChild] = []
    async for message in process.messages():
        messages.append(message)
        if isinstance(message, MetricsMeasured) and message.step == hand_back_at:
            process.send(HandBack())
    await process.kill()
    assert not any(isinstance(message, Failed) for message in messages), (messages[-1], process.exit_text)
    return messages


async def alone(job: Job, tmp_path: Path) -> list[FromChild]:
    job.write(tmp_path / "alone.json")
    return await said(await TrainingProcess.start(tmp_path / "alone.json", simulated_devices=2))


async def together(job: Job, tmp_path: Path, hand_back_at: int | None = None) -> list[FromChild]:
    """What the leader says; the follower must end well, too, and write nothing of its own."""
    address = free_address()
    dataclasses.replace(job, member=Member(address, 2, 0)).write(tmp_path / "leader.json")
    (tmp_path / "work-1").mkdir(exist_ok=True)
    standby = Standby(Member(address, 2, 1), str(tmp_path / "work-1"), str(tmp_path / "cache-1"), job.compilation_cache)
    standby.write(tmp_path / "follower.json")
    leader = await TrainingProcess.start(tmp_path / "leader.json")
    follower = await TrainingProcess.start(tmp_path / "follower.json")
    by_leader, by_follower = await asyncio.gather(said(leader, hand_back_at), said(follower))
    assert not any(isinstance(message, Completed | CheckpointWritten) for message in by_follower)
    return by_leader


def rows(messages: list[FromChild]) -> dict[int, dict[str, float]]:
    found = [message for message in messages if isinstance(message, MetricsMeasured)]
    assert len({row.step for row in found}) == len(found)
    return {row.step: {key: value for key, value in row.values.items() if key not in TIMING_KEYS} for row in found}


@pytest.fixture(autouse=True)
def compiled_without_optimisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """They compile much and compute little."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")


async def test_two_processes_train_as_one_with_two_devices(job: Job, tmp_path: Path) -> None:
    one = rows(await alone(job, tmp_path))
    both = rows(await together(dataclasses.replace(job, run_id="run-2"), tmp_path))
    assert sorted(both) == [1, 2, 3, 4, 5, 6]
    for step, row in one.items():
        assert both[step] == pytest.approx(row, abs=1e-4), step
    assert one[6]["loss"] < one[1]["loss"]


@pytest.mark.slow
async def test_two_processes_hand_back_at_the_same_step_and_resume_exactly(job: Job, tmp_path: Path) -> None:
    undisturbed = await together(job, tmp_path)
    first = await together(dataclasses.replace(job, run_id="run-2"), tmp_path, hand_back_at=1)
    stopped = first[-1]
    assert isinstance(stopped, HandedBack)
    assert 1 <= stopped.step < 6
    rest = await together(dataclasses.replace(job, run_id="run-2", attempt=2), tmp_path)
    assert rows(first) | rows(rest) == rows(undisturbed)
    finished, expected = rest[-1], undisturbed[-1]
    assert isinstance(finished, Completed)
    assert isinstance(expected, Completed)
    assert finished.model.digest == expected.model.digest
