"""The audit log: every effect has its event, refusals too, and the chain shows what was changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlmodel import col
from tests.contract.jobs.project_calls import QUESTIONS, Instance

from tunix_rt.contract.audit import FIELDS, audit_digest, broken_links
from tunix_rt.registry.access.principals import add_principal
from tunix_rt.registry.access.tables import AuditRow
from tunix_rt.registry.access.tokens import add_token
from tunix_rt.rpc.audit import SAMPLE_SECONDS
from tunix_rt.v1 import access_pb2 as pb
from tunix_rt.v1 import access_pb2_grpc, evaluations_pb2, models_pb2, models_pb2_grpc, runs_pb2, runs_pb2_grpc

TIMEOUT = 20


@pytest.fixture
def events(registry: Any) -> Callable[..., Any]:
    """The audit log as an administrator reads it, continued up to now."""
    stub = access_pb2_grpc.AccessServiceStub(registry.channel("bootstrap-token-of-the-tests"))

    async def read(filter: str = "", **fields: Any) -> list[pb.AuditEvent]:
        await registry.audit.store(registry.database)
        request = pb.ListAuditEventsRequest(filter=filter, page_size=1000, **fields)
        return list((await stub.ListAuditEvents(request, timeout=TIMEOUT)).events)

    return read


def rows(events: list[pb.AuditEvent]) -> list[dict[str, Any]]:
    """As `broken_links` reads them."""
    found = []
    for event in events:
        row = {name: getattr(event, name) for name in (*FIELDS, "digest")}
        found.append(row | {"time": event.time.ToDatetime(tzinfo=None).isoformat(timespec="microseconds") + "Z"})
    return found


async def test_an_event_says_who_did_what_from_where(registry: Any, events: Any) -> None:
    request_id = registry.request_id()
    request = runs_pb2.CreateRunRequest(request_id=request_id, spec=registry.spec())
    run = await registry.runs.CreateRun(request, timeout=TIMEOUT)
    (event,) = await events("method = tunix_rt.v1.RunService/CreateRun")
    assert (event.principal, event.outcome, event.request_id, event.count) == ("bootstrap", "OK", request_id, 1)
    assert run.id in event.resource.split()
    assert event.token_id.startswith("tok-")
    assert event.peer.startswith("ipv4:127.0.0.1:")
    assert event.digest.startswith("sha256:")


async def test_nothing_that_failed_leaves_an_event_of_success(registry: Any, events: Any, refusal: Any) -> None:
    bad = runs_pb2.CreateRunRequest(request_id=registry.request_id())
    await refusal(registry.runs.CreateRun(bad, timeout=TIMEOUT))
    assert await events("method = tunix_rt.v1.RunService/CreateRun") == []


async def test_routine_reports_are_counted_and_not_written_one_by_one(registry: Any, events: Any) -> None:
    now = 0.0
    registry.audit._sampler._clock = lambda: now
    _, lease = await registry.running()
    for number in range(5):
        await registry.report(lease, "loss", {number + 1: 1.0})
    now = SAMPLE_SECONDS
    await registry.report(lease, "loss", {9: 1.0})
    found = await events("method = tunix_rt.v1.RunService/ReportMetrics")
    assert [event.count for event in found] == [1, 5]
    assert lease.job_id in found[0].resource


async def test_refusals_are_events_too_and_a_flood_of_them_is_one_event(
    registry: Any, events: Any, refusal: Any
) -> None:
    strangers = runs_pb2_grpc.RunServiceStub(registry.channel("trt_nobody_knows_this_token"))
    for _ in range(20):
        await refusal(strangers.ListRuns(runs_pb2.ListRunsRequest(), timeout=TIMEOUT))
    (event,) = await events("outcome = UNAUTHENTICATED")
    assert (event.principal, event.token_id, event.method) == ("", "", "tunix_rt.v1.RunService/ListRuns")
    assert event.peer.startswith("ipv4:127.0.0.1:") and event.message


async def test_who_was_denied_what_is_an_event(registry: Any, events: Any, refusal: Any) -> None:
    def make(session: Any) -> str:
        add_principal(session, "ann", kind="user", roles=["viewer"], actor="the test")
        return add_token(session, "ann")[1]

    token = await registry.database.run_write(make)
    models = models_pb2_grpc.ModelServiceStub(registry.channel(token))
    request = models_pb2.LockBaselineRequest(request_id=registry.request_id(), name="main", evaluation_id="evl-1")
    await refusal(models.LockBaseline(request, timeout=TIMEOUT))
    (event,) = await events("outcome = PERMISSION_DENIED")
    assert (event.principal, event.method) == ("ann", "tunix_rt.v1.ModelService/LockBaseline")
    assert event.resource.split() == ["main", "evl-1"]
    assert "'approve'" in event.message


async def test_an_approval_whose_conditions_do_not_hold_is_an_event(registry: Any, events: Any, refusal: Any) -> None:
    request = evaluations_pb2.CreateEvaluationRequest(
        request_id=registry.request_id(), evalset="quiz", model="pkg://some_model"
    )
    evaluation = await registry.evaluations.CreateEvaluation(request, timeout=TIMEOUT)
    token = "bootstrap-token-of-the-tests"
    models = models_pb2_grpc.ModelServiceStub(registry.channel(token))
    lock = models_pb2.LockBaselineRequest(request_id=registry.request_id(), name="main", evaluation_id=evaluation.id)
    await refusal(models.LockBaseline(lock, timeout=TIMEOUT))
    (event,) = await events("outcome = FAILED_PRECONDITION")
    assert evaluation.id in event.resource.split()


async def test_the_chain_has_no_gaps_and_shows_every_change(registry: Any, events: Any) -> None:
    for _ in range(3):
        await registry.create_run()
    whole = await events()
    assert [event.sequence for event in whole] == list(range(1, len(whole) + 1))
    assert list(broken_links(rows(whole))) == []
    second = await events(f"sequence > {whole[0].sequence}")
    assert len(second) == len(whole) - 1

    async def after(statement: Any) -> list[str]:
        await registry.database.run_write(lambda session: session.execute(statement))
        return list(broken_links(rows(await events())))

    changed = update(AuditRow).where(col(AuditRow.sequence) == 2)
    assert await after(changed.values(principal="somebody-else")) == [
        "event 2 was changed: its digest is that of another content"
    ]
    assert await after(changed.values(principal=whole[1].principal)) == []
    assert await after(delete(AuditRow).where(col(AuditRow.sequence) == 2)) == ["event 2 is missing: the next one is 3"]


async def test_the_log_comes_in_pages(registry: Any, events: Any) -> None:
    for _ in range(3):
        await registry.create_run()
    whole = await events()
    stub = access_pb2_grpc.AccessServiceStub(registry.channel("bootstrap-token-of-the-tests"))
    request = pb.ListAuditEventsRequest(page_size=1)
    read = []
    while True:
        page = await stub.ListAuditEvents(request, timeout=TIMEOUT)
        read += page.events
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert read == whole
    assert len(read) == 3


async def test_an_event_names_the_project_of_its_call_and_a_workers_that_of_the_job(registry: Any, events: Any) -> None:
    instance = Instance(registry)
    ann = await instance.member("ann", "vision", pb.ROLE_EDITOR)
    await ann.call("EvalSetService/CreateEvalSet", key="vision-quiz", jsonl=QUESTIONS)
    created = await ann.call("EvaluationService/CreateEvaluation", evalset="vision-quiz", model="pkg://some_model")
    await instance.admin.call("JobService/Claim", job_id=created.id, worker_id="evaluator-1")
    found = await events('project = "vision"')
    assert [(event.principal, event.method.rpartition("/")[2], event.project) for event in found] == [
        ("ann", "CreateEvalSet", "vision"),
        ("ann", "CreateEvaluation", "vision"),
        ("bootstrap", "Claim", "vision"),
    ]
    others = {event.method.rpartition("/")[2]: event.project for event in await events('project != "vision"')}
    # A principal's tokens are of no project.
    assert others == {"CreatePrincipal": "default", "CreateToken": ""}
    whole = rows(await events())
    assert list(broken_links(whole)) == []
    whole[-1]["project"] = "speech"
    assert "was changed" in next(iter(broken_links(whole)))


def test_the_digest_of_an_event_without_a_project_is_that_of_earlier_releases() -> None:
    text = (
        '{"count":1,"message":"","method":"m","outcome":"OK","peer":"p","previous_digest":"","principal":"ann",'
        '"request_id":"","resource":"run-1","sequence":1,"time":"2026-05-01T00:00:00.000000Z","token_id":"tok-1"}'
    )
    event = json.loads(text)
    assert audit_digest(event | {"project": ""}) == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert audit_digest(event | {"project": "vision"}) != audit_digest(event | {"project": ""})
