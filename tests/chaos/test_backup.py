"""A backup under the load of twenty writers; then the platform is destroyed, and the copy is the platform."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import until

from tunix_rt.client import JobState, TunixClient
from tunix_rt.local import LocalPlatform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[2]
WRITERS = 20
HYPERPARAMETERS = {
    "learning_rate": 3e-3,
    "per_device_batch_size": 16,
    "max_steps": 10,
    "warmup_steps": 2,
    "max_seq_length": 72,
    "save_steps": 5,
}
GENERATION = {"max_new_tokens": 16}


def backup(*arguments: str) -> Any:
    command = [sys.executable, "-m", "tunix_rt.cli.main", "backup", *arguments, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return json.loads(ended.stdout)


@dataclass(frozen=True)
class Destroyed:
    """What a platform said before it was destroyed, and where its backup and its evidence of it are."""

    place: Path
    acknowledged: list[str]
    board: dict[str, Any]
    model_id: str
    evaluation: dict[str, Any]
    answer: str


@pytest.fixture(scope="module")
def destroyed(tmp_path_factory: pytest.TempPathFactory) -> Destroyed:
    """A platform with a trained and evaluated model, backed up while twenty clients create runs, then deleted."""
    home, place = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("backups")
    with LocalPlatform(home, ports="free") as platform:
        with TunixClient(home=platform.home) as client:
            client.evalsets.create(REPOSITORY / "evalsets" / "arith_v1.jsonl")
            dataset = client.datasets.build("arith-v1", size=300)
            run = client.runs.create(
                base_model="preset://tiny",
                dataset_id=dataset.id,
                hyperparameters=HYPERPARAMETERS,
                evaluate_on=[{"evalset": "arith_v1", "generation": GENERATION}],
            )
            run = client.runs.wait(run.id, timeout_seconds=300)
            assert run.state is JobState.SUCCEEDED, run.message
            evaluation = client.evaluations.wait(run.evaluation_ids[0], timeout_seconds=300)
            assert evaluation.state is JobState.SUCCEEDED, evaluation.message
            board = client.leaderboard("arith_v1").to_dict()
            assert run.model_id is not None
            answer = client.generate(run.model_id, "2 + 2 =", config={"max_new_tokens": 8}).text
        before, acknowledged = _backed_up_under_load(platform, dataset.id, place)
        assert len(acknowledged) > len(before) >= WRITERS
    shutil.rmtree(home)
    return Destroyed(place, before, board, run.model_id, evaluation.to_dict(), answer)


def _backed_up_under_load(platform: LocalPlatform, dataset_id: str, place: Path) -> tuple[list[str], list[str]]:
    """Runs that had been acknowledged when the backup began, and all of them."""
    stop, acknowledged = threading.Event(), list[str]()

    def write() -> None:
        with TunixClient(home=platform.home) as client:
            while not stop.is_set():
                # No worker serves the pool: they wait, in every platform that they are in.
                run = client.runs.create(base_model="preset://tiny", dataset_id=dataset_id, pool="spare")
                acknowledged.append(run.id)

    writers = [threading.Thread(target=write) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        until("every writer is at work", lambda: len(acknowledged) > 5 * WRITERS, 120)
        before = list(acknowledged)
        made = backup("create", str(place), "--home", str(platform.home))
        after = len(acknowledged)
        until("writers go on", lambda: len(acknowledged) > after + WRITERS, 120)
    finally:
        stop.set()
        for writer in writers:
            writer.join(60)
    assert made["problems"] == []
    return before, acknowledged


@pytest.fixture(scope="module")
def copy(destroyed: Destroyed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    """The platform that the backup became, in a home that was moved once more before its first start."""
    assert backup("verify", str(destroyed.place))["problems"] == []
    restored, moved = tmp_path_factory.mktemp("copy") / "restored", tmp_path_factory.mktemp("moved") / "home"
    backup("restore", str(destroyed.place), "--home", str(restored))
    restored.rename(moved)
    with LocalPlatform(moved, ports="free") as platform:
        yield platform


def test_every_run_acknowledged_before_the_backup_is_there(destroyed: Destroyed, copy: LocalPlatform) -> None:
    with TunixClient(home=copy.home) as client:
        found = {run.id: run.state for run in client.runs.list(filter='pool = "spare"', page_size=1000)}
    assert set(destroyed.acknowledged) <= found.keys()
    assert set(found.values()) == {JobState.QUEUED}


def test_the_leaderboard_is_the_same(destroyed: Destroyed, copy: LocalPlatform) -> None:
    with TunixClient(home=copy.home) as client:
        assert client.leaderboard("arith_v1").to_dict() == destroyed.board


def test_the_copy_serves_and_evaluates_the_model_with_the_same_result(
    destroyed: Destroyed, copy: LocalPlatform
) -> None:
    with TunixClient(home=copy.home) as client:
        assert client.generate(destroyed.model_id, "2 + 2 =", config={"max_new_tokens": 8}).text == destroyed.answer
        again = client.evaluations.create(destroyed.model_id, "arith_v1", generation=GENERATION)
        again = client.evaluations.wait(again.id, timeout_seconds=300)
        assert again.state is JobState.SUCCEEDED, again.message
        found, before = again.to_dict(), destroyed.evaluation
        assert found["identity"] == before["identity"]
        assert found["scorecard"] == before["scorecard"]


def test_the_copy_trains_on_from_the_restored_checkpoint(destroyed: Destroyed, copy: LocalPlatform) -> None:
    with TunixClient(home=copy.home) as client:
        [trained] = client.runs.list(filter=f'model_id = "{destroyed.model_id}"')
        spec = {
            "base_model": "preset://tiny",
            "dataset_id": trained.spec.dataset_id,
            "hyperparameters": {**HYPERPARAMETERS, "max_steps": 12},
            "initial_checkpoint": {"run_id": trained.id, "step": HYPERPARAMETERS["max_steps"]},
        }
        more = client.runs.create(spec)
        ended = client.runs.wait(more.id, timeout_seconds=300)
        assert ended.state is JobState.SUCCEEDED, ended.message
