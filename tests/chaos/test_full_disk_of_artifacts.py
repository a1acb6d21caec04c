"""The disk of the artifacts is full while a checkpoint or a model is written: the run goes on when there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.chaos.audit import Tables, unpublished, violations
from tests.chaos.crowd import until
from tests.fixtures.small_disks import fill, small_disk

from tunix_rt.client import JobState, TunixClient
from tunix_rt.local import LocalPlatform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def artifacts(tmp_path: Path) -> Iterator[Path]:
    """The platform's artifacts, on a disk of 128 MiB."""
    with small_disk(tmp_path / "home" / "artifacts", 128) as place:
        yield place


@pytest.mark.fault("artifacts: disk full at a")
@pytest.mark.parametrize("written", ["checkpoint", "model's export"])
def test_full(artifacts: Path, written: str, recovered: Callable[[float], None]) -> None:
    home = artifacts.parent
    with (
        LocalPlatform(home, ports="free", service_counts={"registry": 1, "trainer": 1}) as platform,
        TunixClient(home=home) as client,
    ):
        dataset = client.datasets.build("arith-v1", size=100).id
        steps = {"max_steps": 60, "warmup_steps": 0, "per_device_batch_size": 2, "max_seq_length": 64}
        saved = {**steps, "logging_steps": 1, "save_steps": 10 if written == "checkpoint" else 0}
        filler = fill(artifacts) if written == "model's export" else None
        run = client.runs.create(base_model="preset://tiny", dataset_id=dataset, hyperparameters=saved, max_attempts=20)
        if filler is None:
            until("a checkpoint", lambda: bool(list(client.runs.checkpoints(run.id))), 120)
            filler = fill(artifacts)
        until("that an attempt fails of it", lambda: failed(platform) > 0, 120)
        filler.unlink()
        ended = client.runs.wait(run.id, timeout_seconds=200)
        assert ended.state is JobState.SUCCEEDED, ended.message
        tables = Tables(str(home / "registry.sqlite"))
        until("that everything is published", lambda: unpublished(tables) == 0, 30)
        assert violations(tables) == []
        assert tables.rows("SELECT count(DISTINCT step) FROM metrics WHERE key = 'loss'") == [(60,)]


def failed(platform: LocalPlatform) -> int:
    rows = Tables(str(platform.home / "registry.sqlite")).rows(
        "SELECT count(*) FROM attempts WHERE outcome = 'failed' AND message LIKE '%No space left%'"
    )
    return int(rows[0][0])
