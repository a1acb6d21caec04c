"""Jobs that are tried again after their end, and jobs that nobody claims in time."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.jobs.kinds import KINDS, Kind

from tunix_rt.errors import Aborted, FailedPrecondition, InvalidInput, NotFound
from tunix_rt.registry.runs.tables import CheckpointRow
from tunix_rt.v1 import common_pb2, evaluations_pb2, jobs_pb2, runs_pb2, sweeps_pb2

TIMEOUT = 20
FAILED, CANCELLED, QUEUED = common_pb2.JOB_STATE_FAILED, common_pb2.JOB_STATE_CANCELLED, common_pb2.JOB_STATE_QUEUED
OUT_OF_MEMORY = common_pb2.REASON_OUT_OF_MEMORY
BY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def retry(registry: Any, job_id: str, etag: str = "", message: str = "once more", **fields: Any) -> Any:
    request = {"request_id": registry.request_id(), "id": job_id, "etag": etag, "message": message} | fields
    match job_id.partition("-")[0]:
        case "run":
            return registry.runs.RetryRun(runs_pb2.RetryRunRequest(**request), timeout=TIMEOUT)
        case "eval":
            asked = evaluations_pb2.RetryEvaluationRequest(**request)
            return registry.evaluations.RetryEvaluation(asked, timeout=TIMEOUT)
        case _:
            return registry.sweeps.RetrySweep(sweeps_pb2.RetrySweepRequest(**request), timeout=TIMEOUT)


async def failed(registry: Any, kind: Kind) -> tuple[str, common_pb2.Lease]:
    """A job whose first attempt has failed for good, with the lease of that."""
    job_id, lease = await kind.claimed(registry)
    await registry.complete(lease, FAILED, reason=OUT_OF_MEMORY, message="too little memory")
    return job_id, lease


@BY_KIND
async def test_what_has_failed_is_tried_again_to_success_and_its_history_stays(
    registry: Any, kind: Kind, refusal: Any
) -> None:
    job_id, old = await failed(registry, kind)
    before = await kind.get(registry, job_id)
    found = await retry(registry, job_id, before.etag)
    assert (found.state, found.reason, found.message) == (QUEUED, common_pb2.REASON_RETRIED, "once more")
    assert not found.HasField("end_time")
    assert found.etag != before.etag
    assert (await registry.subjects())[-2:] == [f"tunix.evt.{kind.name}.retried.{job_id}", kind.command]
    assert (await refusal(registry.heartbeat(old))).kind is Aborted
    claim = await registry.claim(job_id, "worker-2")
    assert (claim.granted, claim.lease.epoch) == (True, 2)
    assert await kind.succeed(registry, claim.lease) == common_pb2.JOB_STATE_SUCCEEDED
    assert await registry.outcomes(job_id) == ["FAILED", "SUCCEEDED"]
    assert await registry.history(job_id) == ["QUEUED", "RUNNING", "FAILED", "QUEUED", "RUNNING", "SUCCEEDED"]
    listed = await registry.jobs.ListTransitions(jobs_pb2.ListTransitionsRequest(job_id=job_id), timeout=TIMEOUT)
    again = listed.transitions[3]
    assert (again.from_state, again.reason, again.message) == (FAILED, common_pb2.REASON_RETRIED, "once more")
    assert again.actor == listed.transitions[0].actor != ""


@BY_KIND
async def test_what_was_cancelled_is_tried_again_and_no_longer_to_be_cancelled(registry: Any, kind: Kind) -> None:
    job_id = await kind.create(registry)
    await kind.cancel(registry, job_id)
    assert (await retry(registry, job_id)).state == QUEUED
    lease = (await registry.claim(job_id)).lease
    assert not (await registry.heartbeat(lease)).cancel_requested


@BY_KIND
async def test_only_what_has_ended_without_success_is_tried_again(registry: Any, kind: Kind, refusal: Any) -> None:
    job_id = await kind.create(registry)
    assert (await refusal(retry(registry, job_id))).kind is FailedPrecondition
    lease = (await registry.claim(job_id)).lease
    assert (await refusal(retry(registry, job_id))).kind is FailedPrecondition
    await kind.succeed(registry, lease)
    assert (await refusal(retry(registry, job_id))).kind is FailedPrecondition
    assert (await refusal(retry(registry, f"{job_id}0"))).kind is NotFound
    assert (await refusal(retry(registry, "\0"))).kind is InvalidInput


@BY_KIND
async def test_a_retry_is_idempotent_and_takes_the_newest_etag_only(registry: Any, kind: Kind, refusal: Any) -> None:
    job_id, _ = await failed(registry, kind)
    stale = await refusal(retry(registry, job_id, "r1"))
    assert stale.kind is Aborted
    one_id = registry.request_id()
    first = await retry(registry, job_id, request_id=one_id)
    assert await retry(registry, job_id, request_id=one_id) == first
    assert (await registry.history(job_id)).count("QUEUED") == 2


async def test_failures_count_from_the_retry_and_attempts_are_numbered_on(registry: Any) -> None:
    run, lease = await registry.running(max_attempts=2)
    for expected in ("RUNNING", "FAILED"):
        await registry.complete(lease, FAILED, reason=OUT_OF_MEMORY, retryable=True)
        assert (await registry.history(run.id))[-1] == expected
        lease = (await registry.claim(run.id)).lease
    await retry(registry, run.id)
    for expected in ("RUNNING", "FAILED"):
        lease = (await registry.claim(run.id)).lease
        await registry.complete(lease, FAILED, reason=OUT_OF_MEMORY, retryable=True)
        assert (await registry.history(run.id))[-1] == expected
    assert [attempt.number for attempt in await registry.attempts(run.id)] == [1, 2, 3, 4]


async def test_a_retried_run_goes_on_from_its_checkpoints_with_a_new_deadline(registry: Any) -> None:
    run, lease = await registry.running(deadline_seconds=100)
    checkpoint = runs_pb2.Checkpoint(step=40, uri=registry.uri("checkpoints/40"), digest=registry.digest_of("40"))
    request = runs_pb2.RecordCheckpointRequest(lease=lease, checkpoint=checkpoint)
    await registry.runs.RecordCheckpoint(request, timeout=TIMEOUT)
    assert await registry.count(CheckpointRow) == 1
    await registry.reap(after_seconds=101)
    ended = await registry.get_run(run.id)
    assert (ended.state, ended.reason) == (CANCELLED, common_pb2.REASON_DEADLINE)
    await retry(registry, run.id)
    claim = await registry.claim(run.id, "worker-2")
    assert [each.step for each in claim.run.checkpoints] == [40]
    await registry.reap(after_seconds=5)
    assert (await registry.get_run(run.id)).state == common_pb2.JOB_STATE_RUNNING


async def test_what_decides_a_trial_is_not_tried_again_but_its_sweep_is(registry: Any, refusal: Any) -> None:
    sweep, lease = await registry.claimed_sweep(num_samples=2)
    trial = await registry.trial(lease, 0)
    await registry.complete((await registry.claim(trial.run_id)).lease, FAILED, reason=OUT_OF_MEMORY)
    refused = await refusal(retry(registry, trial.run_id))
    assert refused.kind is FailedPrecondition
    assert sweep.id in refused.text
    await registry.end_sweep(lease, FAILED, reason=common_pb2.REASON_INTERNAL)
    await retry(registry, sweep.id)
    claim = await registry.claim(sweep.id, "tuner-2")
    assert [each.number for each in await registry.trials(sweep.id)] == [0]
    await registry.trial(claim.lease, 1)
    await registry.complete(claim.lease, FAILED, reason=common_pb2.REASON_INTERNAL)
    refused = await refusal(retry(registry, sweep.id))
    assert refused.kind is FailedPrecondition
    assert "extend" in refused.text


async def waiting(registry: Any, kind: Kind, seconds: int) -> str:
    """A job that is to be claimed within ``seconds``."""
    if kind.name == "run":
        return (await registry.create_run(queue_deadline_seconds=seconds)).id
    if kind.name == "sweep":
        return (await registry.create_sweep(num_samples=1, queue_deadline_seconds=seconds)).id
    request = evaluations_pb2.CreateEvaluationRequest(
        request_id=registry.request_id(), evalset="quiz", model="pkg://a_model", queue_deadline_seconds=seconds
    )
    made = await registry.evaluations.CreateEvaluation(request, timeout=TIMEOUT)
    assert made.queue_deadline_seconds == seconds
    return made.id


@BY_KIND
async def test_a_job_that_nobody_claims_in_time_has_failed(registry: Any, kind: Kind) -> None:
    job_id = await waiting(registry, kind, 60)
    await registry.reap(after_seconds=55)
    assert (await kind.get(registry, job_id)).state == QUEUED
    await registry.reap(after_seconds=61)
    found = await kind.get(registry, job_id)
    assert (found.state, found.reason) == (FAILED, common_pb2.REASON_QUEUE_DEADLINE)
    assert found.message == "no worker claimed it within 60 s"
    assert (await registry.subjects("fact"))[-1] == f"tunix.evt.{kind.name}.failed.{job_id}"
    assert not (await registry.claim(job_id)).granted
    assert await registry.attempts(job_id) == []
    # Tried again, it waits as long once more.
    await retry(registry, job_id)
    await registry.reap(after_seconds=55)
    assert (await kind.get(registry, job_id)).state == QUEUED


@BY_KIND
async def test_a_job_that_was_claimed_in_time_may_wait_for_a_successor(registry: Any, kind: Kind) -> None:
    job_id = await waiting(registry, kind, 60)
    await registry.release((await registry.claim(job_id)).lease)
    await registry.reap(after_seconds=61)
    assert (await kind.get(registry, job_id)).state == common_pb2.JOB_STATE_RUNNING


async def test_nobody_is_to_claim_a_paused_sweep(registry: Any) -> None:
    sweep = await registry.create_sweep(queue_deadline_seconds=60)
    asked = {"request_id": registry.request_id(), "id": sweep.id}
    await registry.sweeps.PauseSweep(sweeps_pb2.PauseSweepRequest(**asked), timeout=TIMEOUT)
    await registry.reap(after_seconds=61)
    assert (await registry.get_sweep(sweep.id)).state == QUEUED
    await registry.sweeps.ResumeSweep(sweeps_pb2.ResumeSweepRequest(**asked), timeout=TIMEOUT)
    await registry.reap(after_seconds=61)
    assert (await registry.get_sweep(sweep.id)).reason == common_pb2.REASON_QUEUE_DEADLINE


async def test_no_queue_deadline_is_without_end(registry: Any, refusal: Any) -> None:
    run = await registry.create_run()
    await registry.reap(after_seconds=10_000_000)
    assert (await registry.get_run(run.id)).state == QUEUED
    for seconds in (-1, 2**62):
        refused = await refusal(registry.create_run(queue_deadline_seconds=seconds))
        assert refused.fields == ["spec.queue_deadline_seconds"]
        refused = await refusal(registry.create_sweep(queue_deadline_seconds=seconds))
        assert refused.fields == ["spec.queue_deadline_seconds"]
