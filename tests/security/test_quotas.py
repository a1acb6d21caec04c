"""Nobody fills the queue or the store for the others: quotas of a principal, on both databases."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.security.conftest import Caller, Platform, refusal, request_id

from tunix_rt.errors import Exhausted
from tunix_rt.v1 import common_pb2, datasets_pb2, evalsets_pb2, evaluations_pb2, jobs_pb2, runs_pb2

TIMEOUT = 30
GIB = 1 << 30


@pytest.fixture
def settings_of_platform() -> dict[str, Any]:
    return {
        "max_queued_jobs_per_principal": 3,
        "max_stored_gib_per_principal": 20_000 / GIB,
        "max_queued_jobs_per_project": 5,
        "max_stored_gib_per_project": 60_000 / GIB,
    }


async def dataset(caller: Caller, size: int = 1, key: str = "sums") -> datasets_pb2.Dataset:
    """Traces of about ``size`` kilobytes."""
    trace = {"trace_version": "1.0", "final_answer": "a", "steps": [{"i": 0, "type": "t", "content": "c" * 900}]}
    lines = "".join(json.dumps({"prompt": f"{key} {n}", **trace}) + "\n" for n in range(size))
    parts = [
        datasets_pb2.ImportDatasetRequest(spec=datasets_pb2.ImportDatasetSpec(request_id=request_id(), key=key)),
        datasets_pb2.ImportDatasetRequest(chunk=lines.encode()),
    ]
    return await caller.datasets.ImportDataset(iter(parts), timeout=TIMEOUT)


async def run(caller: Caller, dataset_id: str, **fields: Any) -> runs_pb2.Run:
    spec = runs_pb2.RunSpec(base_model="preset://tiny", dataset_id=dataset_id)
    return await caller.runs.CreateRun(
        runs_pb2.CreateRunRequest(request_id=request_id(), spec=spec, **fields), timeout=TIMEOUT
    )


async def test_queued_jobs_of_every_kind_count_and_those_of_others_do_not(platform: Platform) -> None:
    ann, bob, worker = (platform.caller(token) for token in ("ann:editor", "bob:editor", "w:worker"))
    data = await dataset(ann)
    first = await run(ann, data.id)
    evaluation = await ann.evaluation()
    await run(ann, data.id)
    for call in (run(ann, data.id), ann.evaluation()):
        refused = await refusal(call)
        assert refused.kind is Exhausted
        assert "'ann' has 3 queued jobs, and 3 are allowed (TUNIX_RT_MAX_QUEUED_JOBS_PER_PRINCIPAL)" in refused.text
    await run(ann, data.id, validate_only=True)
    await run(bob, data.id)
    assert (await worker.claim(first.id)).granted  # it runs now, and waits no more
    await run(ann, data.id)
    assert (await refusal(run(ann, data.id))).kind is Exhausted
    cancel = evaluations_pb2.CancelEvaluationRequest(request_id=request_id(), id=evaluation.id)
    await ann.evaluations.CancelEvaluation(cancel, timeout=TIMEOUT)
    await ann.evaluation()


async def test_a_project_has_quotas_of_its_own_and_others_are_not_counted(platform: Platform) -> None:
    members = [platform.caller(f"{name}@vision:editor") for name in ("ann", "bob", "eve", "joe")]
    data = await dataset(members[0], 18)
    for member in members[:2]:
        await run(member, data.id)
        await run(member, data.id)
    await run(members[2], data.id)
    refused = await refusal(run(members[3], data.id))
    assert refused.kind is Exhausted
    assert (
        "project 'vision' has 5 queued jobs, and 5 are allowed (TUNIX_RT_MAX_QUEUED_JOBS_PER_PROJECT)" in refused.text
    )
    await dataset(members[1], 18, "more")
    await dataset(members[2], 18, "and-more")
    refused = await refusal(dataset(members[3], 18, "too-many"))
    assert refused.kind is Exhausted
    assert "of project 'vision', and 60,000 are allowed (TUNIX_RT_MAX_STORED_GIB_PER_PROJECT)" in refused.text
    other = platform.caller("ann@speech:editor")
    await run(other, (await dataset(other, 18)).id)


async def test_a_repeated_request_gets_its_answer_though_the_queue_is_full(platform: Platform) -> None:
    ann = platform.caller("ann:editor")
    spec = runs_pb2.RunSpec(base_model="preset://tiny", dataset_id=(await dataset(ann)).id)
    requests = [runs_pb2.CreateRunRequest(request_id=request_id(), spec=spec) for _ in range(3)]
    runs = [await ann.runs.CreateRun(each, timeout=TIMEOUT) for each in requests]
    assert (await ann.runs.CreateRun(requests[0], timeout=TIMEOUT)).id == runs[0].id


async def test_workers_make_jobs_that_were_asked_for(platform: Platform) -> None:
    worker = platform.caller("w:worker,editor")
    for _ in range(5):
        await worker.evaluation()


async def test_stored_bytes_of_datasets_evalsets_and_models_count(platform: Platform) -> None:
    ann, bob, worker = (platform.caller(token) for token in ("ann:editor", "bob:editor", "w:worker"))
    data = await dataset(ann, 8)
    assert 8_000 < data.artifact.size_bytes < 10_000
    items = [{"id": f"q{n}", "prompt": "p" * 900, "expected_answer": "1", "answer_type": "numeric"} for n in range(8)]
    jsonl = "".join(json.dumps(each) + "\n" for each in items).encode()
    create = evalsets_pb2.CreateEvalSetRequest(request_id=request_id(), key="mine", jsonl=jsonl)
    await ann.evalsets.CreateEvalSet(create, timeout=TIMEOUT)
    refused = await refusal(dataset(ann, 5, "more"))
    assert refused.kind is Exhausted
    assert "of 'ann', and 20,000 are allowed (TUNIX_RT_MAX_STORED_GIB_PER_PRINCIPAL)" in refused.text
    assert (await dataset(ann, 8)).id == data.id  # nothing new
    listed = await ann.datasets.ListDatasets(datasets_pb2.ListDatasetsRequest(), timeout=TIMEOUT)
    assert [each.id for each in listed.datasets] == [data.id]
    await dataset(bob, 5, "more")
    trained = await run(ann, data.id)
    claim = await worker.claim(trained.id)
    await worker.jobs.Complete(success(platform, claim.lease, size=50_000), timeout=TIMEOUT)
    assert (await refusal(run(ann, data.id))).kind is Exhausted


def success(platform: Platform, lease: common_pb2.Lease, *, size: int) -> jobs_pb2.CompleteRequest:
    digest = "sha256:" + "1" * 64
    model = common_pb2.Artifact(
        uri=f"{platform.dependencies.artifacts.root_uri}/models/one",
        digest=digest,
        size_bytes=size,
        files=[common_pb2.ArtifactFile(path="model.safetensors", digest=digest, size_bytes=size)],
    )
    result = jobs_pb2.RunResult(model=model, step=100, lineage={"code_revision": "abc123"})
    return jobs_pb2.CompleteRequest(lease=lease, state=common_pb2.JOB_STATE_SUCCEEDED, run=result)
