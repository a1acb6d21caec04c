"""A lease is a credential: whoever reads a job's ids cannot write to it, and history names the principal that did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from tests.security.conftest import TIMEOUT, Caller, Platform, digest_of, refusal

from tunix_rt.errors import Aborted, PermissionDenied
from tunix_rt.registry.jobs.permissions import check_may_claim
from tunix_rt.registry.kernel.job_tables import AttemptRow
from tunix_rt.rpc.auth import ANONYMOUS, Principal
from tunix_rt.v1 import common_pb2, evaluations_pb2, jobs_pb2

FAILED = jobs_pb2.CompleteRequest(state=common_pb2.JOB_STATE_FAILED, reason=common_pb2.REASON_INTERNAL)
ERRORED = evaluations_pb2.ItemResult(item_id="q0", outcome=evaluations_pb2.ITEM_OUTCOME_ERRORED, message="no answer")


def _complete(caller: Caller, lease: common_pb2.Lease) -> Any:
    request = jobs_pb2.CompleteRequest(lease=lease)
    request.MergeFrom(FAILED)
    return caller.jobs.Complete(request, timeout=TIMEOUT)


WRITES: dict[str, Callable[[Caller, common_pb2.Lease], Any]] = {
    "heartbeat": lambda caller, lease: caller.jobs.Heartbeat(jobs_pb2.HeartbeatRequest(lease=lease), timeout=TIMEOUT),
    "record": lambda caller, lease: caller.record(lease, ERRORED),
    "release": lambda caller, lease: caller.jobs.Release(jobs_pb2.ReleaseRequest(lease=lease), timeout=TIMEOUT),
    "complete": _complete,
}


def stolen(lease: common_pb2.Lease, secret: str) -> common_pb2.Lease:
    """What anybody reads with ListAttempts, and a guess."""
    return common_pb2.Lease(job_id=lease.job_id, attempt_id=lease.attempt_id, epoch=lease.epoch, secret=secret)


@pytest.mark.parametrize("name", WRITES)
async def test_only_the_principal_that_claimed_writes_and_only_with_the_secret(platform: Platform, name: str) -> None:
    honest, other = platform.caller("evaluator-1:worker"), platform.caller("evaluator-2:worker")
    evaluation = await platform.caller("ann:editor").evaluation()
    lease = (await honest.claim(evaluation.id)).lease
    write = WRITES[name]
    # Another principal, even with the right secret; and the right one without it.
    for caller, secret in ((other, ""), (other, lease.secret), (honest, ""), (honest, lease.secret[:-1] + "-")):
        refused = await refusal(write(caller, stolen(lease, secret)))
        assert (refused.kind, "belongs to another worker" in refused.text) == (Aborted, True)
    assert (await other.get(evaluation.id)).state == common_pb2.JOB_STATE_RUNNING
    await write(honest, lease)


async def test_history_names_the_principal_and_not_what_the_worker_calls_itself(platform: Platform) -> None:
    honest = platform.caller("evaluator-1:worker")
    evaluation = await platform.caller("ann:editor").evaluation()
    claim = await honest.claim(evaluation.id)
    await _complete(honest, claim.lease)
    assert [each.actor for each in await honest.history(evaluation.id)] == ["ann", "evaluator-1", "evaluator-1"]
    listed = await honest.jobs.ListAttempts(jobs_pb2.ListAttemptsRequest(job_id=evaluation.id), timeout=TIMEOUT)
    (attempt,) = listed.attempts
    assert (attempt.principal, attempt.worker_id) == ("evaluator-1", "evaluator-1-on-a-machine")


async def test_the_secret_is_told_once_and_stored_as_its_hash(platform: Platform) -> None:
    honest = platform.caller("evaluator-1:worker")
    evaluation = await platform.caller("ann:editor").evaluation()
    lease = (await honest.claim(evaluation.id)).lease
    assert len(lease.secret) == 43  # 32 bytes in base64
    answer = await honest.jobs.Heartbeat(jobs_pb2.HeartbeatRequest(lease=lease), timeout=TIMEOUT)
    assert answer.lease.secret == ""
    rows = await platform.database.run_read(lambda session: session.scalars(select(AttemptRow)).all())
    assert [row.secret_hash for row in rows] == [digest_of(lease.secret).removeprefix("sha256:")]
    assert not (await honest.claim(evaluation.id)).lease.secret


async def test_a_repeated_completion_by_another_is_refused_too(platform: Platform) -> None:
    honest, other = platform.caller("evaluator-1:worker"), platform.caller("evaluator-2:worker")
    evaluation = await platform.caller("ann:editor").evaluation()
    lease = (await honest.claim(evaluation.id)).lease
    await _complete(honest, lease)
    await _complete(honest, lease)
    assert (await refusal(_complete(other, lease))).kind is Aborted


async def test_who_is_no_worker_claims_nothing(platform: Platform) -> None:
    evaluation = await platform.caller("ann:editor").evaluation()
    for roles in ("viewer", "editor", "approver", "admin", "trainer", "tuner", "inferencer", "trainer,tuner,admin"):
        assert (await refusal(platform.caller(f"x:{roles}").claim(evaluation.id))).kind is PermissionDenied
    check_may_claim(ANONYMOUS, "run", "gpu", "default")


async def test_a_worker_claims_its_own_kind_only(platform: Platform) -> None:
    evaluation = await platform.caller("ann:editor").evaluation()
    for roles in ("trainer", "tuner", "inferencer", "trainer,tuner"):
        assert (await refusal(platform.caller(f"x:{roles}").claim(evaluation.id))).kind is PermissionDenied
    assert (await platform.caller("x:evaluator").claim(evaluation.id)).granted


def test_a_worker_claims_of_its_own_pools_only() -> None:
    principal = Principal("x", frozenset({"trainer"}), pools=frozenset({"cpu", "gpu"}))
    check_may_claim(principal, "run", "gpu", "default")
    check_may_claim(Principal("y", frozenset({"worker"})), "run", "tpu", "default")
    with pytest.raises(PermissionDenied, match="serves the pools cpu, gpu, not 'tpu'"):
        check_may_claim(principal, "run", "tpu", "default")
