"""Who may call: tokens and roles, checked by the served registry."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.orm import Session
from sqlmodel import select

from tunix_rt.errors import PermissionDenied, Unauthenticated
from tunix_rt.registry.access.principals import add_principal
from tunix_rt.registry.access.tables import TokenRow
from tunix_rt.registry.access.tokens import add_token
from tunix_rt.v1 import common_pb2, jobs_pb2, jobs_pb2_grpc, runs_pb2, runs_pb2_grpc

TIMEOUT = 20


async def stub(registry: Any, token: str | None) -> runs_pb2_grpc.RunServiceAsyncStub:
    return runs_pb2_grpc.RunServiceStub(registry.channel(token))


async def made(registry: Any, name: str, *roles: str) -> str:
    def make(session: Session) -> str:
        add_principal(session, name, kind="user", roles=roles, actor="the test")
        return add_token(session, name)[1]

    return str(await registry.database.run_write(make))


@pytest.mark.parametrize("token", [None, "wrong", "bootstrap-token-of-the-test"])
async def test_without_a_known_token_nobody_reads_or_writes(registry: Any, refusal: Any, token: str | None) -> None:
    runs = await stub(registry, token)
    for call in (
        runs.ListRuns(runs_pb2.ListRunsRequest(), timeout=TIMEOUT),
        runs.CreateRun(runs_pb2.CreateRunRequest(), timeout=TIMEOUT),
        runs.WatchRun(runs_pb2.WatchRunRequest(id="x"), timeout=TIMEOUT).read(),
    ):
        assert (await refusal(call)).kind is Unauthenticated


async def test_roles_open_what_they_name_and_no_more(registry: Any, refusal: Any) -> None:
    viewer = await stub(registry, await made(registry, "reader", "viewer"))
    editor = await stub(registry, await made(registry, "ann", "editor"))
    token = await made(registry, "trainer-1", "worker")
    worker = await stub(registry, token)
    request = runs_pb2.CreateRunRequest(request_id=registry.request_id(), spec=registry.spec())
    assert (await refusal(viewer.CreateRun(request, timeout=TIMEOUT))).kind is PermissionDenied
    run = await editor.CreateRun(request, timeout=TIMEOUT)
    assert run.created_by == "ann"
    assert (await viewer.GetRun(runs_pb2.GetRunRequest(id=run.id), timeout=TIMEOUT)).id == run.id
    digest = registry.digest_of("c")
    checkpoint = runs_pb2.RecordCheckpointRequest(checkpoint=runs_pb2.Checkpoint(uri=registry.uri("c"), digest=digest))
    claim = jobs_pb2.ClaimRequest(job_id=run.id, worker_id="w")
    claimed = await jobs_pb2_grpc.JobServiceStub(registry.channel(token)).Claim(claim, timeout=TIMEOUT)
    checkpoint.lease.CopyFrom(claimed.lease)
    for other in (viewer, editor):
        assert (await refusal(other.RecordCheckpoint(checkpoint, timeout=TIMEOUT))).kind is PermissionDenied
    await worker.RecordCheckpoint(checkpoint, timeout=TIMEOUT)


async def test_only_workers_carry_out_jobs_and_everybody_reads_their_history(registry: Any, refusal: Any) -> None:
    run = await registry.create_run()
    claim = jobs_pb2.ClaimRequest(job_id=run.id, worker_id="w")
    history = jobs_pb2.ListTransitionsRequest(job_id=run.id)
    for role in ("viewer", "editor", "approver"):
        other = jobs_pb2_grpc.JobServiceStub(registry.channel(await made(registry, role, role)))
        lease = common_pb2.Lease(job_id=run.id, attempt_id="att-1", epoch=1)
        for call in (
            other.Claim(claim, timeout=TIMEOUT),
            other.Heartbeat(jobs_pb2.HeartbeatRequest(lease=lease), timeout=TIMEOUT),
            other.Complete(jobs_pb2.CompleteRequest(lease=lease), timeout=TIMEOUT),
            other.Release(jobs_pb2.ReleaseRequest(lease=lease), timeout=TIMEOUT),
        ):
            assert (await refusal(call)).kind is PermissionDenied
        assert len((await other.ListTransitions(history, timeout=TIMEOUT)).transitions) == 1
    worker = jobs_pb2_grpc.JobServiceStub(registry.channel(await made(registry, "trainer-1", "worker")))
    assert (await worker.Claim(claim, timeout=TIMEOUT)).granted


async def test_tokens_are_hashed_at_rest(registry: Any) -> None:
    token = await made(registry, "reader", "viewer")
    rows = await registry.database.run_read(lambda session: session.scalars(select(TokenRow)).all())
    assert len(rows) == 2  # and the one of the settings
    assert token not in repr(rows)
    assert token.removeprefix("trt_").split("_", 1)[1] not in repr(rows)
