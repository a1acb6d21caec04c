"""Workers and clients say where content lies; the registry passes it on, and believes it only of its own store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.runs.tables import CheckpointRow
from tunix_rt.v1 import common_pb2, models_pb2, runs_pb2

TIMEOUT = 20

OUTSIDE = [
    "reference::http://127.0.0.1:9/refs.json",
    "simplecache::{root}/x",
    "http://127.0.0.1:9/x",
    "s3://foreign/x",
    "memory://x",
    "hf://org/name",
    "file:///outside",
    "file:///etc/passwd",
    "{root}",
    "{root}-of-another/x",
    "{root}/../outside",
    "{root}/%2e%2e/outside",
    "{root}/link",
    "{root}/link/x",
    "{root}/x?y",
    "{root}/x#y",
    "{root}/{{f}}",
    "{root}/x\n",
    "",
]


@pytest.fixture(params=OUTSIDE)
def outside(request: pytest.FixtureRequest, registry: Any, tmp_path: Path) -> str:
    """A URI that is not one of an artifact here; ``link`` leads out of the store."""
    root = registry.dependencies.artifacts.root_uri
    store = Path(registry.dependencies.artifacts.root.path)
    store.mkdir(exist_ok=True)
    (tmp_path / "outside").mkdir()
    (store / "link").symlink_to(tmp_path / "outside")
    return str(request.param).replace("{root}", root)


async def test_a_model_outside_of_the_store_is_refused_and_ends_nothing(
    registry: Any, refusal: Any, outside: str
) -> None:
    run, lease = await registry.running()
    request = registry.success(lease)
    request.run.model.uri = outside
    refused = await refusal(registry.jobs.Complete(request, timeout=TIMEOUT))
    assert (refused.kind, refused.fields) == (InvalidInput, ["run.model.uri"])
    assert (await registry.get_run(run.id)).state == common_pb2.JOB_STATE_RUNNING
    assert await registry.count(ModelVersionRow) == 0


async def test_a_checkpoint_outside_of_the_store_is_refused(registry: Any, refusal: Any, outside: str) -> None:
    _, lease = await registry.running()
    checkpoint = runs_pb2.Checkpoint(step=1, uri=outside, digest=registry.digest_of("c"))
    request = runs_pb2.RecordCheckpointRequest(lease=lease, checkpoint=checkpoint)
    refused = await refusal(registry.runs.RecordCheckpoint(request, timeout=TIMEOUT))
    assert (refused.kind, refused.fields) == (InvalidInput, ["checkpoint.uri"])
    assert await registry.count(CheckpointRow) == 0


@pytest.mark.parametrize("path", ["../evil.pth", "/etc/evil", "a/../../b", "a\0b", "a\\b", "a//b", "", "a\nb"])
async def test_a_file_of_a_model_with_a_name_that_leads_elsewhere_is_refused(
    registry: Any, refusal: Any, path: str
) -> None:
    _, lease = await registry.running()
    request = registry.success(lease)
    request.run.model.files[0].path = path
    refused = await refusal(registry.jobs.Complete(request, timeout=TIMEOUT))
    assert (refused.kind, refused.fields) == (InvalidInput, ["run.model.files[0].path"])
    assert await registry.count(ModelVersionRow) == 0


@pytest.mark.parametrize("count", [0, 10_001])
async def test_a_model_of_no_file_or_of_too_many_is_refused(registry: Any, refusal: Any, count: int) -> None:
    _, lease = await registry.running()
    request = registry.success(lease)
    del request.run.model.files[:]
    for number in range(count):
        request.run.model.files.add(path=str(number), digest=registry.digest_of("x"), size_bytes=1)
    refused = await refusal(registry.jobs.Complete(request, timeout=TIMEOUT))
    assert (refused.kind, refused.fields) == (InvalidInput, ["run.model.files"])


@pytest.mark.parametrize(
    "reference",
    [
        *("reference::http://127.0.0.1:9/refs.json", "simplecache::file:///x", "http://127.0.0.1:9/x", "s3://b/x"),
        *("file://host/x", "file:///a/../b", "file:///a/%2e%2e/b", "file:///a?b", "file:///a#b", "file:///a\nb"),
        *("gguf:///a\\..\\b", "gguf:///a\0", "hf://org/name@../../x", "hf://org/name@/etc/x"),
    ],
)
async def test_a_model_reference_that_leads_elsewhere_is_refused_everywhere(
    registry: Any, refusal: Any, reference: str
) -> None:
    register = models_pb2.RegisterModelRequest(request_id=registry.request_id(), name="a", reference=reference)
    refused = await refusal(registry.models.RegisterModel(register, timeout=TIMEOUT))
    assert (refused.kind, refused.fields) == (InvalidInput, ["reference"])
    assert (await refusal(registry.create_run(base_model=reference))).fields == ["spec.base_model"]
    assert await registry.count(ModelVersionRow) == 0
