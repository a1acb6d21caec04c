"""What a worker may do to a job, and when it may not: fencing, repetition, ends. The same for every kind of job."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tunix_rt.errors import Aborted, FailedPrecondition, InvalidInput, NotFound
from tunix_rt.registry.jobs.kinds import KINDS as REGISTERED
from tunix_rt.v1 import common_pb2, jobs_pb2

from .kinds import KINDS, TIMEOUT, Kind

RUNNING, SUCCEEDED = common_pb2.JOB_STATE_RUNNING, common_pb2.JOB_STATE_SUCCEEDED
FAILED, CANCELLED = common_pb2.JOB_STATE_FAILED, common_pb2.JOB_STATE_CANCELLED
INTERNAL = common_pb2.REASON_INTERNAL
WRITES = ("Heartbeat", "Complete", "Release")


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


async def write(registry: Any, kind: Kind, name: str, lease: common_pb2.Lease) -> None:
    """One call of an RPC that writes under a lease."""
    if name == "Heartbeat":
        await registry.heartbeat(lease, done=1)
    elif name == "Complete":
        await registry.complete(lease, FAILED, reason=INTERNAL)
    else:
        await registry.release(lease, "SIGTERM")


async def limit_attempts(registry: Any, kind: Kind, job_id: str, limit: int) -> None:
    table = next(each.table for each in REGISTERED.values() if each.name == kind.name)

    def change(session: Any) -> None:
        session.get_one(table, job_id).max_attempts = limit

    await registry.database.run_write(change)


async def sent(registry: Any, kind: Kind) -> int:
    """How often a command for a job of this kind was sent."""
    return (await registry.subjects("command")).count(kind.command)


async def test_every_kind_that_workers_claim_is_tested_here() -> None:
    assert sorted(kind.name for kind in KINDS) == sorted(kind.name for kind in REGISTERED.values())
    assert {kind.number for kind in KINDS} == set(jobs_pb2.JobKind.values()) - {jobs_pb2.JOB_KIND_UNSPECIFIED}


async def test_a_claim_starts_an_attempt_and_carries_the_job(registry: Any, kind: Kind) -> None:
    job_id = await kind.create(registry)
    claim = await registry.claim(job_id)
    assert (claim.granted, claim.state, claim.retry_after_seconds) == (True, RUNNING, 0)
    assert (claim.lease.job_id, claim.lease.epoch) == (job_id, 1)
    assert claim.WhichOneof("payload") == kind.name
    payload = getattr(claim, kind.name)
    assert getattr(payload, kind.name) == await kind.get(registry, job_id)
    (attempt,) = await registry.attempts(job_id)
    assert (attempt.id, attempt.job_id, attempt.number) == (claim.lease.attempt_id, job_id, 1)
    assert (attempt.outcome, attempt.worker_id) == (jobs_pb2.ATTEMPT_OUTCOME_RUNNING, "worker-1")
    assert dict(attempt.environment) == {"jax": "0.10.2"}


async def test_of_many_concurrent_claims_one_is_granted(registry: Any, kind: Kind) -> None:
    job_id = await kind.create(registry)
    claims = await asyncio.gather(*(registry.claim(job_id, f"worker-{number}") for number in range(8)))
    assert sum(claim.granted for claim in claims) == 1
    for claim in claims:
        if not claim.granted:
            assert 0 < claim.retry_after_seconds <= 15
            assert claim.WhichOneof("payload") is None
            assert not claim.HasField("lease")
    assert len(await registry.attempts(job_id)) == 1


async def test_a_redelivered_command_for_a_job_that_has_ended_is_answered_with_never(registry: Any, kind: Kind) -> None:
    job_id, lease = await kind.claimed(registry)
    assert await kind.succeed(registry, lease) == SUCCEEDED
    claim = await registry.claim(job_id, "worker-2")
    assert (claim.granted, claim.retry_after_seconds, claim.state) == (False, 0, SUCCEEDED)
    assert len(await registry.attempts(job_id)) == 1


async def test_a_worker_gets_jobs_of_its_own_kind_only(registry: Any, refusal: Any, kind: Kind) -> None:
    job_id = await kind.create(registry)
    for number in jobs_pb2.JobKind.values():
        request = jobs_pb2.ClaimRequest(job_id=job_id, worker_id="w", kind=number)
        if number not in (kind.number, jobs_pb2.JOB_KIND_UNSPECIFIED):
            assert (await refusal(registry.jobs.Claim(request, timeout=TIMEOUT))).kind is NotFound
    assert await registry.attempts(job_id) == []
    request = jobs_pb2.ClaimRequest(job_id=job_id, worker_id="w", kind=kind.number)
    assert (await registry.jobs.Claim(request, timeout=TIMEOUT)).granted


@pytest.mark.parametrize("job_id", ["run-none", "eval-none", "sweep-none", "trial-none", "none"])
async def test_nobody_claims_what_does_not_exist(registry: Any, refusal: Any, job_id: str) -> None:
    assert (await refusal(registry.claim(job_id))).kind is NotFound
    lease = common_pb2.Lease(job_id=job_id, attempt_id="att-1", epoch=1)
    assert (await refusal(registry.heartbeat(lease))).kind is NotFound
    assert (await refusal(registry.complete(lease, FAILED, reason=INTERNAL))).kind is NotFound
    assert (await refusal(registry.release(lease))).kind is NotFound
    assert (await refusal(registry.attempts(job_id))).kind is NotFound
    assert (await refusal(registry.history(job_id))).kind is NotFound


@pytest.mark.parametrize("name", WRITES)
async def test_a_paused_worker_that_wakes_up_can_do_no_harm(registry: Any, refusal: Any, kind: Kind, name: str) -> None:
    job_id, old = await kind.claimed(registry)
    assert await registry.reap(after_seconds=20) == 1
    claim = await registry.claim(job_id, "worker-2")
    assert (claim.granted, claim.lease.epoch) == (True, 2)
    before = await kind.get(registry, job_id)
    assert (await refusal(write(registry, kind, name, old))).kind is Aborted
    assert await kind.get(registry, job_id) == before
    assert await registry.outcomes(job_id) == ["LOST", "RUNNING"]
    # The same write by the holder of the lease passes.
    await write(registry, kind, name, claim.lease)


async def test_an_old_worker_cannot_even_report_success(registry: Any, refusal: Any, kind: Kind) -> None:
    job_id, old = await kind.claimed(registry)
    result = await kind.success(registry, old)
    await registry.reap(after_seconds=20)
    await registry.claim(job_id, "worker-2")
    assert (await refusal(registry.complete(old, SUCCEEDED, **result))).kind is Aborted
    assert (await kind.get(registry, job_id)).state == RUNNING


async def test_the_reaper_fences_even_before_anybody_claims(registry: Any, refusal: Any, kind: Kind) -> None:
    job_id, lease = await kind.claimed(registry)
    await registry.reap(after_seconds=20)
    assert (await refusal(registry.heartbeat(lease))).kind is Aborted
    assert (await kind.get(registry, job_id)).state == RUNNING
    assert await registry.outcomes(job_id) == ["LOST"]
    assert await sent(registry, kind) == 2


async def test_a_heartbeat_extends_the_lease(registry: Any, kind: Kind) -> None:
    job_id, lease = await kind.claimed(registry)
    answer = await registry.heartbeat(lease)
    assert answer.lease.expire_time.ToMicroseconds() > lease.expire_time.ToMicroseconds()
    assert (answer.cancel_requested, answer.cancel_reason) == (False, common_pb2.REASON_UNSPECIFIED)
    (attempt,) = await registry.attempts(job_id)
    assert attempt.heartbeat_time.ToMicroseconds() > attempt.start_time.ToMicroseconds()


async def test_the_step_that_an_attempt_resumed_from_is_kept_with_the_attempt(registry: Any, kind: Kind) -> None:
    job_id, lease = await kind.claimed(registry)
    await registry.heartbeat(lease)
    await registry.reap(after_seconds=20)
    second = (await registry.claim(job_id, "worker-2")).lease
    await registry.heartbeat(second, resumed_step=40)
    # Heartbeats that do not say it again do not take it back.
    await registry.heartbeat(second)
    assert [attempt.resumed_step for attempt in await registry.attempts(job_id)] == [0, 40]


@pytest.mark.parametrize("name", WRITES)
async def test_an_incomplete_lease_is_invalid(registry: Any, refusal: Any, kind: Kind, name: str) -> None:
    refused = await refusal(write(registry, kind, name, common_pb2.Lease()))
    assert refused.fields == ["lease.attempt_id", "lease.epoch", "lease.job_id"]


async def test_a_completion_whose_answer_was_lost_can_be_repeated(registry: Any, kind: Kind) -> None:
    job_id, lease = await kind.claimed(registry)
    result = await kind.success(registry, lease)
    assert await registry.complete(lease, SUCCEEDED, **result) == SUCCEEDED
    job, events = await kind.get(registry, job_id), len(await registry.outbox())
    assert await registry.complete(lease, SUCCEEDED, **result) == SUCCEEDED
    assert (await kind.get(registry, job_id), len(await registry.outbox())) == (job, events)
    assert await registry.outcomes(job_id) == ["SUCCEEDED"]


async def test_a_finished_attempt_cannot_end_in_another_way(registry: Any, refusal: Any, kind: Kind) -> None:
    job_id, lease = await kind.claimed(registry)
    await kind.succeed(registry, lease)
    refused = await refusal(registry.complete(lease, FAILED, reason=common_pb2.REASON_DIVERGED))
    assert refused.kind is Aborted
    assert (await kind.get(registry, job_id)).state == SUCCEEDED


async def test_a_failure_keeps_its_reason_and_message(registry: Any, kind: Kind) -> None:
    job_id, lease = await kind.claimed(registry)
    failure = {"reason": common_pb2.REASON_OUT_OF_MEMORY, "message": "8 GiB are not enough"}
    assert await registry.complete(lease, FAILED, **failure) == FAILED
    job = await kind.get(registry, job_id)
    assert (job.state, job.reason, job.message) == (FAILED, failure["reason"], failure["message"])
    assert await registry.history(job_id) == ["QUEUED", "RUNNING", "FAILED"]
    (attempt,) = await registry.attempts(job_id)
    assert (attempt.outcome, attempt.reason) == (jobs_pb2.ATTEMPT_OUTCOME_FAILED, failure["reason"])
    assert attempt.message == failure["message"]


async def test_a_retryable_failure_sends_the_command_again_until_attempts_run_out(registry: Any, kind: Kind) -> None:
    job_id, lease = await kind.claimed(registry)
    await limit_attempts(registry, kind, job_id, 2)
    failure = {"reason": INTERNAL, "message": "XLA crashed", "retryable": True}
    assert await registry.complete(lease, FAILED, **failure) == RUNNING
    assert await registry.complete(lease, FAILED, **failure) == RUNNING
    assert await sent(registry, kind) == 2
    claim = await registry.claim(job_id, "worker-2")
    assert await registry.complete(claim.lease, FAILED, **failure) == FAILED
    job = await kind.get(registry, job_id)
    assert (job.state, job.reason, job.message, job.attempts) == (FAILED, INTERNAL, "XLA crashed", 2)
    assert await sent(registry, kind) == 2


async def test_a_released_job_is_sent_to_the_next_worker_and_not_counted(registry: Any, kind: Kind) -> None:
    job_id, lease = await kind.claimed(registry)
    await limit_attempts(registry, kind, job_id, 1)
    await registry.release(lease, "SIGTERM")
    assert await sent(registry, kind) == 2
    claim = await registry.claim(job_id, "worker-2")
    assert claim.granted
    assert await kind.succeed(registry, claim.lease) == SUCCEEDED
    assert await registry.outcomes(job_id) == ["RELEASED", "SUCCEEDED"]
    assert (await registry.attempts(job_id))[0].message == "SIGTERM"


async def test_a_worker_hears_of_a_cancellation_and_confirms_it(registry: Any, kind: Kind) -> None:
    job_id, lease = await kind.claimed(registry)
    assert (await kind.cancel(registry, job_id)).state == common_pb2.JOB_STATE_CANCELLING
    answer = await registry.heartbeat(lease)
    assert (answer.cancel_requested, answer.cancel_reason) == (True, common_pb2.REASON_USER_CANCELLED)
    assert await registry.complete(lease, CANCELLED, message="stopped at step 3") == CANCELLED
    done = await kind.get(registry, job_id)
    assert (done.reason, done.message) == (common_pb2.REASON_USER_CANCELLED, "enough")
    assert await registry.complete(lease, CANCELLED) == CANCELLED
    assert await kind.get(registry, job_id) == done
    assert await registry.history(job_id) == ["QUEUED", "RUNNING", "CANCELLING", "CANCELLED"]
    assert await registry.outcomes(job_id) == ["CANCELLED"]


async def test_a_job_that_finishes_before_it_hears_of_the_cancellation_has_succeeded(registry: Any, kind: Kind) -> None:
    job_id, lease = await kind.claimed(registry)
    result = await kind.success(registry, lease)
    await kind.cancel(registry, job_id)
    assert await registry.complete(lease, SUCCEEDED, **result) == SUCCEEDED
    assert await registry.history(job_id) == ["QUEUED", "RUNNING", "CANCELLING", "SUCCEEDED"]


async def test_a_cancelled_job_whose_worker_is_lost_ends_cancelled(registry: Any, kind: Kind) -> None:
    job_id, _ = await kind.claimed(registry)
    await kind.cancel(registry, job_id)
    assert await registry.reap(after_seconds=1) == 0
    assert await registry.reap(after_seconds=20) == 1
    assert (await kind.get(registry, job_id)).state == CANCELLED


async def test_nobody_can_confirm_a_cancellation_that_was_not_asked_for(
    registry: Any, refusal: Any, kind: Kind
) -> None:
    job_id, lease = await kind.claimed(registry)
    assert (await refusal(registry.complete(lease, CANCELLED))).kind is FailedPrecondition
    assert (await kind.get(registry, job_id)).state == RUNNING


@pytest.mark.parametrize(
    ("completion", "field"),
    [
        ({"state": RUNNING}, "state"),
        ({"state": common_pb2.JOB_STATE_UNSPECIFIED}, "state"),
        ({"state": FAILED}, "reason"),
        ({"state": FAILED, "reason": 77}, "reason"),
        ({"state": FAILED, "reason": INTERNAL, "message": "x" * 20_001}, "message"),
        ({"state": FAILED, "reason": INTERNAL, "message": "a\0b"}, "message"),
    ],
)
async def test_a_malformed_completion_is_refused_by_field_and_ends_nothing(
    registry: Any, refusal: Any, kind: Kind, completion: dict[str, Any], field: str
) -> None:
    job_id, lease = await kind.claimed(registry)
    refused = await refusal(registry.complete(lease, **completion))
    assert (refused.kind, refused.fields) == (InvalidInput, [field])
    assert (await kind.get(registry, job_id)).state == RUNNING


async def test_success_needs_the_result_of_the_jobs_own_kind_and_nothing_else_has_one(
    registry: Any, refusal: Any, kind: Kind
) -> None:
    job_id, lease = await kind.claimed(registry)
    result = await kind.success(registry, lease)
    other = {"sweep": jobs_pb2.SweepResult(num_samples=1)} if kind.name != "sweep" else {"run": jobs_pb2.RunResult()}
    for given in ({}, other):
        refused = await refusal(registry.complete(lease, SUCCEEDED, **given))
        assert (refused.kind, refused.fields) == (InvalidInput, [kind.name])
    refused = await refusal(registry.complete(lease, FAILED, reason=INTERNAL, **result))
    assert (refused.kind, refused.fields) == (InvalidInput, [kind.name])
    assert (await kind.get(registry, job_id)).state == RUNNING


@pytest.mark.parametrize(
    ("claim", "field"),
    [
        ({"job_id": ""}, "job_id"),
        ({"worker_id": ""}, "worker_id"),
        ({"worker_id": "x" * 201}, "worker_id"),
        ({"kind": 99}, "kind"),
        ({"environment": {"key": "x" * 2001}}, "environment.key"),
        ({"environment": {f"k{n}": "" for n in range(101)}}, "environment"),
    ],
)
async def test_a_malformed_claim_is_refused_by_field(
    registry: Any, refusal: Any, claim: dict[str, Any], field: str
) -> None:
    run = await registry.create_run()
    request = jobs_pb2.ClaimRequest(**({"job_id": run.id, "worker_id": "w"} | claim))
    refused = await refusal(registry.jobs.Claim(request, timeout=TIMEOUT))
    assert (refused.kind, refused.fields) == (InvalidInput, [field])
    assert await registry.attempts(run.id) == []


async def test_a_malformed_heartbeat_is_refused_by_field(registry: Any, refusal: Any) -> None:
    _, lease = await registry.running()
    request = jobs_pb2.HeartbeatRequest(
        lease=lease, progress=common_pb2.Progress(done=-1, total=-1, unit="x" * 201), resumed_step=-1
    )
    refused = await refusal(registry.jobs.Heartbeat(request, timeout=TIMEOUT))
    assert refused.fields == ["progress.done", "progress.total", "progress.unit", "resumed_step"]


async def test_attempts_and_transitions_are_listed_oldest_first_page_by_page(
    registry: Any, refusal: Any, kind: Kind
) -> None:
    job_id, lease = await kind.claimed(registry)
    for number in range(4):
        await registry.release(lease, f"for the {number + 1}. time")
        lease = (await registry.claim(job_id)).lease
    await registry.complete(lease, FAILED, reason=INTERNAL)
    pages: list[list[int]] = []
    request = jobs_pb2.ListAttemptsRequest(job_id=job_id, page_size=2)
    while not pages or request.page_token:
        answer = await registry.jobs.ListAttempts(request, timeout=TIMEOUT)
        pages.append([attempt.number for attempt in answer.attempts])
        request.page_token = answer.next_page_token
    assert pages == [[1, 2], [3, 4], [5]]
    first = await registry.jobs.ListTransitions(
        jobs_pb2.ListTransitionsRequest(job_id=job_id, page_size=2), timeout=TIMEOUT
    )
    then = jobs_pb2.ListTransitionsRequest(job_id=job_id, page_token=first.next_page_token)
    rest = await registry.jobs.ListTransitions(then, timeout=TIMEOUT)
    moves = [(each.from_state, each.to_state) for each in [*first.transitions, *rest.transitions]]
    queued = common_pb2.JOB_STATE_QUEUED
    assert moves == [(0, queued), (queued, RUNNING), (RUNNING, FAILED)]
    then.job_id = await kind.create(registry)
    assert (await refusal(registry.jobs.ListTransitions(then, timeout=TIMEOUT))).fields == ["page_token"]
