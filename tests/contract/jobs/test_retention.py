"""Deleting runs and sweeps, checkpoints that stay, and what the retention loop removes."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.contract.jobs.conftest import TOKEN, digest_of

from tunix_rt.artifacts.inventory import inventory_of
from tunix_rt.errors import FailedPrecondition, InvalidInput, NotFound, Transient
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel.artifact_lock import artifacts_may_go, artifacts_stay
from tunix_rt.registry.kernel.idempotency import RequestRow
from tunix_rt.registry.kernel.job_tables import AttemptRow, TransitionRow
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.retention.loop import Limits, Retention
from tunix_rt.registry.retention.tables import TombstoneRow
from tunix_rt.registry.runs.tables import CheckpointRow, LogRow, MetricRow, RunRow
from tunix_rt.registry.sweeps.tables import SweepRow, TrialRow
from tunix_rt.v1 import common_pb2, datasets_pb2, datasets_pb2_grpc, retention_pb2_grpc, runs_pb2, sweeps_pb2
from tunix_rt.v1 import retention_pb2 as pb

TIMEOUT = 20
NOTHING = timedelta(0)
LONG = timedelta(days=1000)
FOR_EVER = Limits(LONG, LONG, LONG, LONG, None, None, None)


def stub_of(registry: Any) -> Any:
    return retention_pb2_grpc.RetentionServiceStub(registry.channel(TOKEN))


def delete(registry: Any, id: str, **fields: Any) -> Any:
    request = pb.DeleteResourceRequest(request_id=registry.request_id(), id=id, **fields)
    return stub_of(registry).DeleteResource(request, timeout=TIMEOUT)


def archive(registry: Any, id: str) -> Any:
    request = pb.ArchiveResourceRequest(request_id=registry.request_id(), id=id)
    return stub_of(registry).ArchiveResource(request, timeout=TIMEOUT)


async def garbage(registry: Any, **fields: Any) -> list[tuple[str, str, int, bool]]:
    found = stub_of(registry).CollectGarbage(pb.CollectGarbageRequest(**fields), timeout=TIMEOUT)
    return [(each.path, each.reason, each.size_bytes, each.removed) async for page in found for each in page.items]


async def retained(registry: Any, limits: Limits) -> None:
    """What the retention loop does until nothing is left to do."""
    loop = Retention(registry.database, inventory_of(registry.dependencies.artifacts), limits, rest_seconds=1.0)
    for _ in range(20):
        if not await loop.round():
            return
    raise AssertionError("the retention loop does not come to an end")


async def trained(registry: Any, content: str = "weights", **fields: Any) -> Any:
    """A run that has SUCCEEDED, with a point, a line, and checkpoints of steps 10, 20 and 30."""
    run, lease = await registry.running(**fields)
    await registry.report(lease, "loss", {1: 0.5})
    await registry.report(lease, "eval_loss", {10: 0.3, 20: 0.1, 30: 0.2})
    line = common_pb2.LogLine(message="hello", level=common_pb2.LOG_LEVEL_INFO, sequence=1)
    await registry.runs.ReportLogs(runs_pb2.ReportLogsRequest(lease=lease, lines=[line]), timeout=TIMEOUT)
    for step in (10, 20, 30):
        await checkpoint(registry, lease, run.id, step)
    return await registry.succeed(lease, content)


async def checkpoint(registry: Any, lease: Any, run_id: str, step: int) -> None:
    place = Path(registry.dependencies.artifacts.local_root) / "checkpoints" / run_id / str(step)
    place.mkdir(parents=True)
    (place / "MANIFEST.json").write_text("{}")
    made = runs_pb2.Checkpoint(
        step=step, uri=registry.uri(f"checkpoints/{run_id}/{step}"), digest=digest_of(str(step)), size_bytes=2
    )
    request = runs_pb2.RecordCheckpointRequest(lease=lease, checkpoint=made)
    await registry.runs.RecordCheckpoint(request, timeout=TIMEOUT)


def on_disk(registry: Any, run_id: str) -> list[str]:
    place = Path(registry.dependencies.artifacts.local_root) / "checkpoints" / run_id
    return sorted(each.name for each in place.iterdir()) if place.exists() else []


async def steps(registry: Any, run_id: str) -> list[int]:
    found = await registry.runs.ListCheckpoints(runs_pb2.ListCheckpointsRequest(run_id=run_id), timeout=TIMEOUT)
    return [each.step for each in found.checkpoints]


# Deleting


async def test_a_run_goes_with_all_its_parts_and_a_tombstone(registry: Any, refusal: Any) -> None:
    run = await trained(registry, evaluate_on=[runs_pb2.EvaluateOn(evalset="quiz")])
    await registry.score(run, 0.5)
    refused = await refusal(delete(registry, run.id))
    assert refused.kind is FailedPrecondition
    assert f"model {run.model_id} (default/1) was made by it" in refused.text
    assert f"evaluation {run.evaluation_ids[0]} (default on quiz) evaluates its model" in refused.text
    gone = (await delete(registry, run.id, cascade=True)).resources
    assert [(each.kind, each.id) for each in gone] == [
        ("run", run.id), ("model", run.model_id), ("evaluation", run.evaluation_ids[0])
    ]  # fmt: skip
    assert (await refusal(registry.get_run(run.id))).kind is NotFound
    for table in (RunRow, ModelVersionRow, EvaluationRow, CheckpointRow, AttemptRow, TransitionRow):
        assert await registry.count(table) == 0, table
    assert [each for each in await registry.subjects("fact") if ".deleted." in each] == [
        f"tunix.evt.evaluation.deleted.{run.evaluation_ids[0]}",
        f"tunix.evt.model.deleted.{run.model_id}",
        f"tunix.evt.run.deleted.{run.id}",
    ]
    # The largest parts go bit by bit, and then the files.
    assert (await registry.count(MetricRow), on_disk(registry, run.id)) == (4, ["10", "20", "30"])
    await retained(registry, FOR_EVER)
    assert (await registry.count(MetricRow), await registry.count(LogRow), on_disk(registry, run.id)) == (0, 0, [])
    stones = await registry.database.run_read(lambda session: list(session.scalars(select(TombstoneRow))))
    assert [(each.project, each.deleted_by, each.unfinished) for each in stones] == [
        ("default", "bootstrap", False)
    ] * 3


async def test_a_job_that_has_not_ended_is_cancelled_first(registry: Any, refusal: Any) -> None:
    run, _ = await registry.running()
    for refused in (await refusal(delete(registry, run.id, cascade=True)), await refusal(archive(registry, run.id))):
        assert refused.kind is FailedPrecondition
        assert f"{run.id} is RUNNING: cancel it first" in refused.text
    queued = await registry.create_run()
    await registry.cancel(queued.id)
    assert [each.id for each in (await delete(registry, queued.id)).resources] == [queued.id]


async def test_a_sweep_goes_with_its_trials_and_never_without_their_runs(registry: Any, refusal: Any) -> None:
    sweep, lease = await registry.claimed_sweep(num_samples=1)
    trial = await registry.trial(lease, 0)
    run = await registry.train(trial)
    await registry.score(run, 0.5)
    await registry.end_sweep(lease, common_pb2.JOB_STATE_SUCCEEDED)
    refused = await refusal(delete(registry, sweep.id))
    assert refused.kind is FailedPrecondition and f"run {run.id}" in refused.text
    assert f"sweep {sweep.id} has it as a trial" in (await refusal(delete(registry, run.id))).text
    gone = [each.kind for each in (await delete(registry, sweep.id, cascade=True)).resources]
    assert sorted(gone) == ["evaluation", "model", "run", "sweep"]
    for table in (SweepRow, TrialRow, RunRow, EvaluationRow, TransitionRow):
        assert await registry.count(table) == 0, table


async def test_a_run_that_others_start_from_is_named_by_them(registry: Any, refusal: Any) -> None:
    source = await trained(registry)
    start = runs_pb2.CheckpointRef(run_id=source.id, step=30)
    later = await registry.create_run(initial_checkpoint=start)
    refused = await refusal(delete(registry, source.id, cascade=True))
    assert refused.kind is FailedPrecondition and f"run {later.id} is QUEUED" in refused.text
    await registry.cancel(later.id)
    assert f"run {later.id} begins at its checkpoint" in (await refusal(delete(registry, source.id))).text


async def test_a_dataset_goes_when_nothing_was_trained_on_it(registry: Any, refusal: Any) -> None:
    run = await registry.create_run()
    await registry.cancel(run.id)
    datasets = datasets_pb2_grpc.DatasetServiceStub(registry.channel(TOKEN))
    request = datasets_pb2.DeleteDatasetRequest(request_id=registry.request_id(), id=registry.dataset_id)
    for refused in (
        await refusal(datasets.DeleteDataset(request, timeout=TIMEOUT)),
        await refusal(delete(registry, registry.dataset_id)),
    ):
        assert refused.kind is FailedPrecondition and f"run {run.id} was trained on it" in refused.text
    await archive(registry, registry.dataset_id)
    assert not (await datasets.ListDatasets(datasets_pb2.ListDatasetsRequest(), timeout=TIMEOUT)).datasets
    hidden = datasets_pb2.ListDatasetsRequest(filter="archived = true")
    (found,) = (await datasets.ListDatasets(hidden, timeout=TIMEOUT)).datasets
    assert found.HasField("archive_time")
    gone = (await delete(registry, registry.dataset_id, cascade=True)).resources
    assert [each.kind for each in gone] == ["dataset", "run"]


async def test_archived_runs_and_sweeps_leave_their_lists(registry: Any) -> None:
    run, sweep = await trained(registry), await registry.create_sweep()
    cancel = sweeps_pb2.CancelSweepRequest(request_id=registry.request_id(), id=sweep.id)
    await registry.sweeps.CancelSweep(cancel, timeout=TIMEOUT)
    await archive(registry, run.id)
    await archive(registry, sweep.id)
    assert not (await registry.runs.ListRuns(runs_pb2.ListRunsRequest(), timeout=TIMEOUT)).runs
    assert not (await registry.sweeps.ListSweeps(sweeps_pb2.ListSweepsRequest(), timeout=TIMEOUT)).sweeps
    (found,) = (await registry.runs.ListRuns(runs_pb2.ListRunsRequest(filter="archived = true"), timeout=TIMEOUT)).runs
    assert found.id == run.id and found.HasField("archive_time")
    (hidden,) = (
        await registry.sweeps.ListSweeps(sweeps_pb2.ListSweepsRequest(filter="archived = true"), timeout=TIMEOUT)
    ).sweeps
    assert hidden.HasField("archive_time")
    assert (await registry.get_run(run.id)).HasField("archive_time")
    assert (await archive(registry, registry.dataset_id)).resource.kind == "dataset"  # on which an archived run rests


# Checkpoints


@pytest.mark.parametrize(
    ("policy", "kept"), [("", [30]), ("last", [30]), ("best", [20]), ("none", []), ("all", [30, 20, 10])]
)
async def test_checkpoints_of_a_run_that_succeeded(registry: Any, policy: str, kept: list[int]) -> None:
    run = await trained(registry, checkpoint_retention=policy)
    assert run.spec.checkpoint_retention == (policy or "last")
    assert await steps(registry, run.id) == kept
    await retained(registry, FOR_EVER)
    assert on_disk(registry, run.id) == sorted(map(str, kept))
    assert await registry.count(CheckpointRow) == len(kept)


async def test_an_unknown_retention_is_refused_before_anything_is_queued(registry: Any, refusal: Any) -> None:
    refused = await refusal(registry.create_run(checkpoint_retention="newest"))
    assert (refused.kind, refused.fields) == (InvalidInput, ["spec.checkpoint_retention"])
    assert "expected one of last, best, none, all" in refused.text


async def test_a_checkpoint_that_a_waiting_run_starts_from_stays(registry: Any) -> None:
    run, lease = await registry.running()
    for step in (10, 20, 30):
        await checkpoint(registry, lease, run.id, step)
    await registry.create_run(initial_checkpoint=runs_pb2.CheckpointRef(run_id=run.id, step=10))
    await registry.succeed(lease)
    assert await steps(registry, run.id) == [30, 10]


@pytest.mark.parametrize(("policy", "kept"), [("last", [30, 10]), ("none", [])])
async def test_what_a_run_that_succeeded_started_from_stays_unless_nothing_does(
    registry: Any, policy: str, kept: list[int]
) -> None:
    run, lease = await registry.running(checkpoint_retention=policy)
    for step in (10, 20, 30):
        await checkpoint(registry, lease, run.id, step)
    begun = [
        await registry.create_run(initial_checkpoint=runs_pb2.CheckpointRef(run_id=run.id, step=step))
        for step in (10, 20)
    ]
    await registry.succeed((await registry.claim(begun[0].id, "trainer-2")).lease)
    await registry.cancel(begun[1].id)
    await registry.succeed(lease)
    assert await steps(registry, run.id) == kept


async def test_a_failed_run_keeps_its_checkpoints_until_their_limit(registry: Any) -> None:
    run, lease = await registry.running()
    await checkpoint(registry, lease, run.id, 10)
    await registry.end(lease, common_pb2.JOB_STATE_FAILED, reason=common_pb2.REASON_DIVERGED)
    await retained(registry, Limits(LONG, LONG, LONG, LONG, None, None, timedelta(hours=1)))
    assert (await steps(registry, run.id), on_disk(registry, run.id)) == ([10], ["10"])
    await retained(registry, Limits(LONG, LONG, LONG, LONG, None, None, NOTHING))
    assert (await steps(registry, run.id), on_disk(registry, run.id)) == ([], [])


async def test_trials_keep_theirs_until_their_sweep_has_ended(registry: Any) -> None:
    _, lease = await registry.claimed_sweep(num_samples=1)
    trial = await registry.trial(lease, 0)
    claim = await registry.claim(trial.run_id, "trainer-1")
    for step in (10, 20):
        await checkpoint(registry, claim.lease, trial.run_id, step)
    run = await registry.succeed(claim.lease)
    assert await steps(registry, run.id) == [20, 10]
    await registry.score(run, 0.5)
    await registry.end_sweep(lease, common_pb2.JOB_STATE_SUCCEEDED)
    assert await steps(registry, run.id) == [20]


# Limits


async def test_runs_go_after_their_time_but_not_where_something_rests_on_them(registry: Any) -> None:
    plain, begun, source = await trained(registry, "a"), await registry.create_run(), await trained(registry, "b")
    later = await registry.create_run(initial_checkpoint=runs_pb2.CheckpointRef(run_id=source.id, step=30))
    limits = Limits(LONG, LONG, LONG, LONG, timedelta(hours=1), None, None)
    await retained(registry, limits)
    assert await registry.count(RunRow) == 4
    await retained(registry, Limits(LONG, LONG, LONG, LONG, NOTHING, None, None))
    left = await registry.runs.ListRuns(runs_pb2.ListRunsRequest(order_by="create_time"), timeout=TIMEOUT)
    assert [each.id for each in left.runs] == [begun.id, source.id, later.id]
    stones = await registry.database.run_read(lambda session: list(session.scalars(select(TombstoneRow))))
    assert {(each.id, each.deleted_by) for each in stones} == {(plain.id, "retention"), (plain.model_id, "retention")}


async def test_facts_commands_and_answers_go_after_their_time_and_nothing_that_waits(registry: Any) -> None:
    done, waiting = await trained(registry), await registry.create_run()
    await retained(registry, Limits(NOTHING, NOTHING, NOTHING, LONG, None, None, None))
    # Nothing has been published yet; answers are gone.
    assert f"tunix.evt.run.created.{done.id}" in await registry.subjects()
    assert await registry.count(RequestRow) == 0
    await registry.database.run_write(
        lambda session: session.execute(update(OutboxRow).values(published_time=utc_now()))
    )
    await retained(registry, Limits(LONG, NOTHING, NOTHING, LONG, None, None, None))
    # The newest fact stays, and the command of the run that waits for a worker.
    rows = await registry.outbox()
    assert [(each.kind, each.resource_id) for each in rows] == [("fact", waiting.id), ("command", waiting.id)]


async def test_log_lines_and_tombstones_have_limits_of_their_own(registry: Any) -> None:
    run = await trained(registry)
    await retained(registry, Limits(LONG, LONG, LONG, LONG, None, NOTHING, None))
    assert (await registry.count(LogRow), await registry.count(MetricRow)) == (0, 4)
    await delete(registry, run.id, cascade=True)
    await retained(registry, FOR_EVER)
    await retained(registry, Limits(LONG, LONG, LONG, NOTHING, None, None, None))
    stones = await registry.database.run_read(lambda session: list(session.scalars(select(TombstoneRow))))
    # Its number is not given again.
    assert [(each.kind, each.name, each.version) for each in stones] == [("model", "default", 1)]


# Garbage


def old_file(registry: Any, path: str, hours: float = 48.0, text: str = "12345") -> Path:
    place = Path(registry.dependencies.artifacts.local_root) / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    then = time.time() - hours * 3600
    for each in (place, *place.parents[: len(Path(path).parts) - 1]):
        os.utime(each, (then, then))
    return place


async def test_gc_removes_what_nothing_refers_to_and_shows_it_before(registry: Any) -> None:
    digest = "ab" * 32
    lost = old_file(registry, f"sha256/ab/{digest}.jsonl")
    staged = old_file(registry, f"tmp/{'0' * 32}")
    orphan = old_file(registry, "checkpoints/run-00000000000000000000000000/5/MANIFEST.json", text="{}")
    fresh = old_file(registry, f"sha256/cd/{'cd' * 32}.jsonl", hours=1)
    foreign = old_file(registry, "notes/readme.txt")
    name = digest_of("sums").removeprefix("sha256:")
    used = old_file(registry, f"sha256/{name[:2]}/{name}.jsonl")
    shown = await garbage(registry, validate_only=True)
    assert sorted(shown) == [
        ("checkpoints/run-00000000000000000000000000/5", "run run-00000000000000000000000000 does not exist", 2, False),
        (f"sha256/ab/{digest}.jsonl", "no dataset or model has it", 5, False),
        (f"tmp/{'0' * 32}", "its writer has left it behind", 5, False),
    ]
    assert all(each.exists() for each in (lost, staged, orphan, fresh, foreign, used))
    removed = await garbage(registry)
    assert sorted(removed) == [(*each[:3], True) for each in sorted(shown)]
    assert [each.exists() for each in (lost, staged, orphan)] == [False] * 3
    assert all(each.exists() for each in (fresh, foreign, used))
    assert not any(Path(registry.dependencies.artifacts.local_root, "tmp").iterdir())
    assert await garbage(registry) == []


async def test_gc_keeps_checkpoints_of_live_runs_and_takes_what_ended_ones_no_longer_keep(registry: Any) -> None:
    live, lease = await registry.running()
    await checkpoint(registry, lease, live.id, 10)
    ended = await trained(registry)
    for run, path in ((live.id, "10/MANIFEST.json"), (live.id, "tmp-1/x"), (ended.id, "30/MANIFEST.json")):
        old_file(registry, f"checkpoints/{run}/{path}")
    for path in ("20/MANIFEST.json", "tmp-1/x"):
        old_file(registry, f"checkpoints/{ended.id}/{path}")
    assert [(path, reason) for path, reason, *_ in await garbage(registry)] == [
        (f"checkpoints/{ended.id}/20", f"run {ended.id} no longer keeps it"),
        (f"checkpoints/{ended.id}/tmp-1", f"run {ended.id} has left it behind"),
    ]
    assert on_disk(registry, live.id) == ["10", "tmp-1"]


async def test_nothing_is_removed_beside_a_backup(registry: Any, refusal: Any) -> None:
    run, lost = await trained(registry), old_file(registry, f"tmp/{'0' * 32}")
    with artifacts_stay(registry.database):
        refused = await refusal(_first(registry))
        assert (refused.kind, "a backup" in refused.text) == (Transient, True)
        await retained(registry, FOR_EVER)
        assert lost.exists() and on_disk(registry, run.id) == ["10", "20", "30"]
        assert len(await garbage(registry, validate_only=True)) == 1
    assert len(await garbage(registry)) == 1
    await retained(registry, FOR_EVER)
    assert on_disk(registry, run.id) == ["30"]


async def test_gc_waits_for_another_deletion_that_is_short(registry: Any) -> None:
    old_file(registry, f"tmp/{'0' * 32}")
    with artifacts_may_go(registry.database):
        collecting = asyncio.create_task(garbage(registry))
        done, _ = await asyncio.wait([collecting], timeout=0.5)
        assert not done
    assert [removed for *_, removed in await collecting] == [True]


async def test_gc_does_not_touch_what_may_just_have_been_uploaded(registry: Any, refusal: Any) -> None:
    refused = await refusal(_first(registry, older_than_seconds=60))
    assert (refused.kind, refused.fields) == (InvalidInput, ["older_than_seconds"])
    old_file(registry, f"tmp/{'0' * 32}", hours=2)
    assert await garbage(registry) == []
    assert len(await garbage(registry, older_than_seconds=3600)) == 1


async def _first(registry: Any, **fields: Any) -> Any:
    found = stub_of(registry).CollectGarbage(pb.CollectGarbageRequest(**fields), timeout=TIMEOUT)
    async for page in found:
        return page
    return None


def test_content_that_is_stored_again_meanwhile_is_not_removed(tmp_path: Path) -> None:
    from tunix_rt.artifacts import ArtifactStore

    store = ArtifactStore(tmp_path.as_uri())
    stored = store.put_bytes(b"again", suffix=".jsonl")
    path = store.root.locate(stored.uri)
    os.utime(path, (1.0, 1.0))
    before = utc_now() - timedelta(hours=1)
    relative = str(Path(path).relative_to(tmp_path))
    (entry,) = inventory_of(store).entries()
    assert entry.path == relative and entry.changed < before
    store.put_bytes(b"again", suffix=".jsonl")
    assert inventory_of(store).remove(relative, before=before) is False
    assert store.get_bytes(stored.uri, stored.digest) == b"again"


@pytest.mark.parametrize("wanted", [True, False])
def test_object_stores_have_garbage_too(tmp_path: Path, wanted: bool) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    from tunix_rt.artifacts import ArtifactStore

    files = MemoryFileSystem()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    store = ArtifactStore("s3://bucket/prefix", filesystem=files, cache_dir=tmp_path)
    stored = store.put_bytes(b"content", suffix=".jsonl")
    inventory = inventory_of(store)
    (entry,) = inventory.entries()
    assert stored.uri == f"s3://bucket/prefix/{entry.path}" and entry.size_bytes == 7
    assert inventory.remove(entry.path, lambda: wanted, utc_now() + timedelta(hours=1)) is not wanted
    assert bool(list(inventory.entries())) is wanted
