"""What only runs have of the worker protocol: payload, result, metrics, logs, checkpoints."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.errors import Aborted, FailedPrecondition, InvalidInput
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.runs.tables import LogRow, MetricRow, RunRow
from tunix_rt.v1 import common_pb2, evaluations_pb2, jobs_pb2, models_pb2, runs_pb2

TIMEOUT = 20
POINT = common_pb2.MetricPoint
LINE = common_pb2.LogLine


async def report(registry: Any, lease: common_pb2.Lease, *points: common_pb2.MetricPoint) -> int:
    request = runs_pb2.ReportMetricsRequest(lease=lease, points=points)
    return (await registry.runs.ReportMetrics(request, timeout=TIMEOUT)).stored


async def metrics(registry: Any, run_id: str, **fields: Any) -> runs_pb2.ListMetricsResponse:
    return await registry.runs.ListMetrics(runs_pb2.ListMetricsRequest(run_id=run_id, **fields), timeout=TIMEOUT)


def writes(registry: Any, lease: common_pb2.Lease) -> dict[str, Any]:
    """One call of every RPC of RunService that writes under a lease."""
    runs = registry.runs
    checkpoint = runs_pb2.Checkpoint(step=1, uri=registry.uri("c"), digest=registry.digest_of("c"))
    return {
        "ReportMetrics": lambda: report(registry, lease, POINT(key="loss", step=1, value=1)),
        "ReportLogs": lambda: runs.ReportLogs(
            runs_pb2.ReportLogsRequest(lease=lease, lines=[LINE(message="x")]), timeout=TIMEOUT
        ),
        "RecordCheckpoint": lambda: runs.RecordCheckpoint(
            runs_pb2.RecordCheckpointRequest(lease=lease, checkpoint=checkpoint), timeout=TIMEOUT
        ),
    }


async def test_a_claim_carries_all_that_a_worker_needs(registry: Any) -> None:
    run = await registry.create_run()
    claim = await registry.claim(run.id)
    assert claim.granted
    assert (claim.lease.job_id, claim.lease.epoch) == (run.id, 1)
    assert claim.run.run.state == common_pb2.JOB_STATE_RUNNING
    assert claim.run.run.spec == run.spec
    assert claim.run.dataset_id == registry.dataset_id
    assert claim.run.dataset.digest == registry.digest_of("sums")
    assert not claim.run.HasField("base_model")


async def test_a_worker_of_another_pool_gets_nothing(registry: Any, refusal: Any) -> None:
    run = await registry.create_run(pool="gpu-h100")
    request = jobs_pb2.ClaimRequest(job_id=run.id, worker_id="w", pool="cpu")
    assert (await refusal(registry.jobs.Claim(request, timeout=TIMEOUT))).kind is FailedPrecondition
    request.pool = "gpu-h100"
    assert (await registry.jobs.Claim(request, timeout=TIMEOUT)).granted


@pytest.mark.parametrize("write", ["ReportMetrics", "ReportLogs", "RecordCheckpoint"])
async def test_a_paused_worker_that_wakes_up_can_do_no_harm(registry: Any, refusal: Any, write: str) -> None:
    run, old = await registry.running()
    assert await registry.reap(after_seconds=20) == 1
    claim = await registry.claim(run.id, "worker-2")
    assert (claim.granted, claim.lease.epoch) == (True, 2)
    before = await registry.get_run(run.id)
    assert (await refusal(writes(registry, old)[write]())).kind is Aborted
    assert await registry.get_run(run.id) == before
    assert (await registry.count(MetricRow), await registry.count(LogRow)) == (0, 0)
    assert await registry.count(ModelVersionRow) == 0
    # The same write by the holder of the lease passes.
    await writes(registry, claim.lease)[write]()


async def test_success_registers_the_model_and_creates_the_evaluations_in_one_act(registry: Any) -> None:
    run, lease = await registry.running(
        model_name="sums", evaluate_on=[runs_pb2.EvaluateOn(evalset="quiz", threshold=0.7)]
    )
    done = await registry.succeed(lease)
    assert done.state == common_pb2.JOB_STATE_SUCCEEDED
    model = await registry.models.GetModel(models_pb2.GetModelRequest(id=done.model_id), timeout=TIMEOUT)
    assert (model.name, model.version) == ("sums", 1)
    assert model.artifact.digest == registry.digest_of("weights")
    assert (model.lineage.run_id, model.lineage.attempt, model.lineage.step) == (run.id, 1, 100)
    assert model.lineage.code_revision == "abc123"
    assert dict(model.lineage.details) == {"jax": "0.10.2"}
    (evaluation_id,) = done.evaluation_ids
    request = evaluations_pb2.GetEvaluationRequest(id=evaluation_id)
    evaluation = await registry.evaluations.GetEvaluation(request, timeout=TIMEOUT)
    assert (evaluation.run_id, evaluation.model_id, evaluation.threshold) == (run.id, model.id, 0.7)
    assert await registry.outcomes(run.id) == ["SUCCEEDED"]
    subjects = await registry.subjects()
    assert subjects[2:] == [
        f"tunix.evt.run.running.{run.id}",
        f"tunix.evt.model.registered.{model.id}",
        f"tunix.evt.evaluation.created.{evaluation_id}",
        "tunix.cmd.evaluate",
        f"tunix.evt.run.succeeded.{run.id}",
    ]
    # Sent again, because the answer was lost.
    assert await registry.succeed(lease) == done
    assert (await registry.count(ModelVersionRow), await registry.count(EvaluationRow)) == (1, 1)


async def test_a_stored_spec_that_would_be_refused_today_still_ends_with_its_evaluations(registry: Any) -> None:
    run, lease = await registry.running(evaluate_on=[runs_pb2.EvaluateOn(evalset="quiz")])

    def as_an_earlier_release_took_it(session: Any) -> None:
        row = session.get_one(RunRow, run.id)
        row.spec, changed = re.subn(r'("generation":{[^}]*"dtype":)"float32"', r'\1"bfloat16"', row.spec)
        assert changed == 1

    await registry.database.run_write(as_an_earlier_release_took_it)
    done = await registry.succeed(lease)
    request = evaluations_pb2.GetEvaluationRequest(id=done.evaluation_ids[0])
    evaluation = await registry.evaluations.GetEvaluation(request, timeout=TIMEOUT)
    assert (done.state, evaluation.generation.dtype) == (common_pb2.JOB_STATE_SUCCEEDED, "bfloat16")


async def test_a_run_ends_with_the_reason_that_it_was_cancelled_for(registry: Any) -> None:
    run, lease = await registry.running()
    asked = await registry.cancel(run.id, reason=common_pb2.REASON_EARLY_STOPPED, message="no hope")
    assert asked.state == common_pb2.JOB_STATE_CANCELLING
    beat = await registry.heartbeat(lease)
    assert (beat.cancel_requested, beat.cancel_reason) == (True, common_pb2.REASON_EARLY_STOPPED)
    done = await registry.end(lease, common_pb2.JOB_STATE_CANCELLED)
    assert (done.state, done.reason, done.message) == (
        common_pb2.JOB_STATE_CANCELLED,
        common_pb2.REASON_EARLY_STOPPED,
        "no hope",
    )
    assert await registry.end(lease, common_pb2.JOB_STATE_CANCELLED) == done
    assert await registry.history(run.id) == ["QUEUED", "RUNNING", "CANCELLING", "CANCELLED"]


async def test_a_run_that_finishes_before_it_hears_of_the_cancellation_has_its_model(registry: Any) -> None:
    run, lease = await registry.running()
    await registry.cancel(run.id)
    done = await registry.succeed(lease)
    assert done.state == common_pb2.JOB_STATE_SUCCEEDED
    assert done.model_id
    assert await registry.history(run.id) == ["QUEUED", "RUNNING", "CANCELLING", "SUCCEEDED"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": None}, "run.model"),
        ({"model": {"uri": ""}}, "run.model.uri"),
        ({"model": {"digest": "sha256:12"}}, "run.model.digest"),
        ({"model": {"size_bytes": -1}}, "run.model.size_bytes"),
        ({"step": -1}, "run.step"),
        ({"lineage": {"key": "x" * 2001}}, "run.lineage.key"),
    ],
)
async def test_a_malformed_result_is_refused_by_field_and_ends_nothing(
    registry: Any, refusal: Any, change: dict[str, Any], field: str
) -> None:
    run, lease = await registry.running()
    request = registry.success(lease)
    for name, value in change.items():
        if value is None:
            request.run.ClearField(name)
        elif name == "model":
            for part, wrong in value.items():
                setattr(request.run.model, part, wrong)
        elif name == "lineage":
            request.run.lineage.update(value)
        else:
            setattr(request.run, name, value)
    refused = await refusal(registry.jobs.Complete(request, timeout=TIMEOUT))
    assert (refused.kind, refused.fields) == (InvalidInput, [field])
    assert (await registry.get_run(run.id)).state == common_pb2.JOB_STATE_RUNNING
    assert await registry.count(ModelVersionRow) == 0


async def test_metric_points_sent_twice_are_stored_once_and_the_last_value_stays(registry: Any) -> None:
    run, lease = await registry.running()
    points = [POINT(key="loss", step=step, value=1.0 / step) for step in (1, 2, 3)]
    assert await report(registry, lease, *points) == 3
    assert await report(registry, lease, *points[1:], POINT(key="loss", step=3, value=0.25)) == 2
    listed = await metrics(registry, run.id)
    assert [(point.step, point.value) for point in listed.points] == [(1, 1.0), (2, 0.5), (3, 0.25)]
    # What a resumed attempt repeats does not turn the last value back.
    await report(registry, lease, POINT(key="loss", step=1, value=9.0), POINT(key="lr", step=1, value=1e-4))
    assert dict((await registry.get_run(run.id)).last_metrics) == {"loss": 0.25, "lr": 1e-4}


async def test_metric_points_are_stored_to_the_last_bit(registry: Any) -> None:
    run, lease = await registry.running()
    values = [0.1, 0.0, 5e-324, 1.7976931348623157e308, 1 / 3, -123456789.123456789]
    times = ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "2026-11-22T17:00:00.000001Z"]
    times += ["2026-11-22T17:00:00.123456789Z", "9999-12-31T23:59:59.999999999Z", "1970-01-01T00:00:00Z"]
    points = []
    for number, key in enumerate(["NULL", "null", "a/b.c-d_e", "0", "-", "x" * 128]):
        point = common_pb2.MetricPoint(key=key, step=2**63 - 1 - number, value=values[number])
        point.time.FromJsonString(times[number])
        points.append(point)
    stored = await registry.runs.ReportMetrics(runs_pb2.ReportMetricsRequest(lease=lease, points=points), timeout=20)
    assert stored.stored == 6
    found = {point.key: point for point in (await metrics(registry, run.id)).points}
    for point in points:
        twin = found.pop(point.key)
        # SQLite keeps no sign of zero.
        assert (twin.step, (twin.value or 0.0).hex()) == (point.step, (point.value or 0.0).hex())
        # Databases keep microseconds.
        assert twin.time.ToMicroseconds() == point.time.ToMicroseconds()
    assert not found


async def test_reports_that_go_on_and_back_and_on_are_one_curve(registry: Any) -> None:
    """A resumed run repeats steps: what is beyond all that is stored and what is not go different ways."""
    run, lease = await registry.running()
    for steps, value in (((1, 2, 3), 1.0), ((4, 5), 2.0), ((3, 4, 5, 6), 3.0), ((6,), 4.0), ((7, 2), 5.0), ((8,), 6.0)):
        points = [common_pb2.MetricPoint(key="loss", step=step, value=value) for step in steps]
        points.append(common_pb2.MetricPoint(key=f"only-{value:.0f}", step=0, value=value))
        await registry.runs.ReportMetrics(runs_pb2.ReportMetricsRequest(lease=lease, points=points), timeout=20)
    found = [(point.step, point.value) for point in (await metrics(registry, run.id, keys=["loss"])).points]
    assert found == [(1, 1.0), (2, 5.0), (3, 3.0), (4, 3.0), (5, 3.0), (6, 4.0), (7, 5.0), (8, 6.0)]
    last = dict((await registry.get_run(run.id)).last_metrics)
    assert last == {"loss": 6.0} | {f"only-{number}": float(number) for number in range(1, 7)}


async def test_metrics_are_listed_by_key_then_step_page_by_page(registry: Any) -> None:
    run, lease = await registry.running()
    await report(registry, lease, *(POINT(key=key, step=step, value=step) for step in (10, 9, 2) for key in "ba"))
    found: list[tuple[str, int]] = []
    token = ""
    while True:
        page = await metrics(registry, run.id, page_size=4, page_token=token)
        found += [(point.key, point.step) for point in page.points]
        token = page.next_page_token
        if not token:
            break
    assert found == [("a", 2), ("a", 9), ("a", 10), ("b", 2), ("b", 9), ("b", 10)]
    only_b = await metrics(registry, run.id, keys=["b", "none"])
    assert [point.key for point in only_b.points] == ["b"] * 3


async def test_five_thousand_points_fit_in_one_call_and_no_more(registry: Any, refusal: Any) -> None:
    run, lease = await registry.running()
    points = [POINT(key="loss", step=step, value=math.sin(step)) for step in range(5001)]
    assert (await refusal(report(registry, lease, *points))).fields == ["points"]
    assert await registry.count(MetricRow) == 0
    assert await report(registry, lease, *points[:5000]) == 5000
    listed = await metrics(registry, run.id, page_size=10_000)
    assert [point.value for point in listed.points] == [math.sin(step) for step in range(5000)]


@pytest.mark.parametrize(
    ("point", "field"),
    [
        (POINT(key="", step=1, value=1), "points[1].key"),
        (POINT(key="a b", step=1, value=1), "points[1].key"),
        (POINT(key="x" * 129, step=1, value=1), "points[1].key"),
        (POINT(key="loss", step=-1, value=1), "points[1].step"),
        (POINT(key="loss", step=1, value=math.nan), "points[1].value"),
        (POINT(key="loss", step=1, value=math.inf), "points[1].value"),
        (POINT(key="loss", step=1, value=1, time=Timestamp(seconds=10**15)), "points[1].time"),
    ],
)
async def test_one_bad_point_refuses_the_report(
    registry: Any, refusal: Any, point: common_pb2.MetricPoint, field: str
) -> None:
    _, lease = await registry.running()
    refused = await refusal(report(registry, lease, POINT(key="loss", step=0, value=0), point))
    assert refused.fields == [field]
    assert await registry.count(MetricRow) == 0


async def test_reporting_metrics_is_no_event(registry: Any) -> None:
    _, lease = await registry.running()
    events = len(await registry.outbox())
    await report(registry, lease, POINT(key="loss", step=1, value=1))
    assert len(await registry.outbox()) == events


async def test_progress_becomes_a_fact_at_most_every_five_seconds(registry: Any) -> None:
    run, lease = await registry.running()
    for done in (1, 2, 3):
        await registry.heartbeat(lease, done=done)
    await registry.heartbeat(lease)
    progressed = [row for row in await registry.outbox() if ".progressed." in row.subject]
    assert [json.loads(row.body)["run"]["progress"]["done"] for row in progressed] == ["1"]
    current = await registry.get_run(run.id)
    assert (current.progress.done, current.progress.total, current.progress.unit) == (3, 100, "steps")


async def test_log_lines_are_stored_once_in_the_order_of_attempt_and_sequence(registry: Any) -> None:
    run, lease = await registry.running()

    async def log(under: common_pb2.Lease, *lines: common_pb2.LogLine) -> int:
        request = runs_pb2.ReportLogsRequest(lease=under, lines=lines)
        return (await registry.runs.ReportLogs(request, timeout=TIMEOUT)).stored

    warning = common_pb2.LOG_LEVEL_WARNING
    assert await log(lease, LINE(sequence=2, message="b"), LINE(sequence=1, message="a", level=warning)) == 2
    assert await log(lease, LINE(sequence=2, message="B"), LINE(sequence=3, message="c\0")) == 1
    await registry.reap(after_seconds=20)
    claim = await registry.claim(run.id, "worker-2")
    assert await log(claim.lease, LINE(sequence=1, message="again")) == 1
    first = await registry.runs.ListLogs(runs_pb2.ListLogsRequest(run_id=run.id, page_size=3), timeout=TIMEOUT)
    rest = await registry.runs.ListLogs(
        runs_pb2.ListLogsRequest(run_id=run.id, page_token=first.next_page_token), timeout=TIMEOUT
    )
    lines = [*first.lines, *rest.lines]
    assert [(line.attempt, line.sequence, line.message) for line in lines] == [
        (1, 1, "a"),
        (1, 2, "b"),
        (1, 3, "c\N{REPLACEMENT CHARACTER}"),
        (2, 1, "again"),
    ]
    assert lines[0].level == warning


async def test_checkpoints_come_back_newest_first_without_the_removed_ones(registry: Any) -> None:
    run, lease = await registry.running()

    async def record(step: int, content: str, *removed: int) -> None:
        checkpoint = runs_pb2.Checkpoint(
            step=step, uri=registry.uri(content), digest=registry.digest_of(content), size_bytes=3
        )
        request = runs_pb2.RecordCheckpointRequest(lease=lease, checkpoint=checkpoint, removed_steps=removed)
        await registry.runs.RecordCheckpoint(request, timeout=TIMEOUT)

    await record(10, "ten")
    await record(20, "twenty")
    await record(30, "thirty", 10)
    await record(20, "twenty-again")
    await registry.reap(after_seconds=20)
    claim = await registry.claim(run.id, "worker-2")
    assert [(each.step, each.uri) for each in claim.run.checkpoints] == [
        (30, registry.uri("thirty")),
        (20, registry.uri("twenty-again")),
    ]
    assert claim.run.checkpoints[0].digest == registry.digest_of("thirty")
    # Everybody can list them, page by page.
    first = await registry.runs.ListCheckpoints(
        runs_pb2.ListCheckpointsRequest(run_id=run.id, page_size=1), timeout=TIMEOUT
    )
    rest = await registry.runs.ListCheckpoints(
        runs_pb2.ListCheckpointsRequest(run_id=run.id, page_token=first.next_page_token), timeout=TIMEOUT
    )
    assert [*first.checkpoints, *rest.checkpoints] == list(claim.run.checkpoints)
    assert rest.next_page_token == ""


async def test_a_malformed_checkpoint_is_refused_by_field(registry: Any, refusal: Any) -> None:
    _, lease = await registry.running()
    checkpoint = runs_pb2.Checkpoint(step=-1, uri="/no/scheme", digest="md5:1", size_bytes=-5)
    request = runs_pb2.RecordCheckpointRequest(lease=lease, checkpoint=checkpoint)
    refused = await refusal(registry.runs.RecordCheckpoint(request, timeout=TIMEOUT))
    assert refused.fields == ["checkpoint.digest", "checkpoint.size_bytes", "checkpoint.step", "checkpoint.uri"]


async def test_concurrent_reports_and_heartbeats_of_one_worker_all_count(registry: Any) -> None:
    run, lease = await registry.running()
    await asyncio.gather(
        *(report(registry, lease, POINT(key=f"k{number}", step=1, value=number)) for number in range(10)),
        *(registry.heartbeat(lease, done=number) for number in range(1, 6)),
    )
    assert len((await registry.get_run(run.id)).last_metrics) == 10
    assert len((await metrics(registry, run.id)).points) == 10
