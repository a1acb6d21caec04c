"""Services without a database report what changed there, and what was refused, to the registry's audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.contract.jobs.test_introspection import made
from tests.fixtures.inferencing import serving_inferencer

from tunix_rt.errors import InvalidInput, PermissionDenied, TunixError
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.rpc import audit_reports
from tunix_rt.rpc.audit_reports import AuditReports
from tunix_rt.rpc.call import Call
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.projects import PROJECT_HEADER
from tunix_rt.v1 import access_pb2 as pb
from tunix_rt.v1 import access_pb2_grpc, inference_pb2, inference_pb2_grpc

TIMEOUT = 20
LOAD = "tunix_rt.v1.InferenceService/LoadModel"


async def events(registry: Any, filter: str = "") -> list[pb.AuditEvent]:
    """The audit log as an administrator reads it."""
    await registry.audit.store(registry.database)
    stub = access_pb2_grpc.AccessServiceStub(registry.channel("bootstrap-token-of-the-tests"))
    request = pb.ListAuditEventsRequest(filter=filter, page_size=1000)
    return list((await stub.ListAuditEvents(request, timeout=TIMEOUT)).events)


@asynccontextmanager
async def reporting_inferencer(registry: Any, home: Path, token: str) -> AsyncIterator[tuple[int, int]]:
    """Ports of gRPC and HTTP. All events have been sent when the block is left."""
    settings = InferencerSettings(
        home=home,
        listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        registry_address=registry.address,
        token=token,
        grace_seconds=0.1,
    )
    async with serving_inferencer(settings) as ports:
        yield ports


async def test_who_loaded_and_unloaded_what_is_in_the_audit_log(registry: Any, tmp_path: Path, refusal: Any) -> None:
    own, ann, bob = [
        await made(registry, *who) for who in (("inf", "inferencer"), ("ann", "editor"), ("bob", "viewer"))
    ]
    async with reporting_inferencer(registry, tmp_path, own) as (port, http_port):
        stub = inference_pb2_grpc.InferenceServiceStub(registry.channel(ann, port))
        load = inference_pb2.LoadModelRequest(reference="test://a")
        model = await stub.LoadModel(load, timeout=TIMEOUT)
        adapter = inference_pb2.LoadAdapterRequest(model=model.handle, reference="adapter://x/2/a")
        loaded = await stub.LoadAdapter(adapter, timeout=TIMEOUT)
        await stub.UnloadAdapter(inference_pb2.UnloadAdapterRequest(handle=loaded.handle), timeout=TIMEOUT)
        await stub.UnloadModel(inference_pb2.UnloadModelRequest(handle=model.handle), timeout=TIMEOUT)
        await refusal(stub.LoadModel(inference_pb2.LoadModelRequest(reference="file:///no"), timeout=TIMEOUT))
        viewer = inference_pb2_grpc.InferenceServiceStub(registry.channel(bob, port))
        for _ in range(3):
            assert (await refusal(viewer.LoadModel(load, timeout=TIMEOUT))).kind is PermissionDenied
        url = f"http://127.0.0.1:{http_port}/v1/models"
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as answer:
                assert answer.status == 401
            headers = {"authorization": f"Bearer {await made(registry, 'eve', 'viewer', 'mine')}", PROJECT_HEADER: "x"}
            async with session.get(url, headers=headers) as answer:
                assert answer.status == 403
    done = [event for event in await events(registry, "outcome = OK") if "InferenceService" in event.method]
    assert [event.method.rpartition("/")[2] for event in done] == [
        *("LoadModel", "LoadAdapter", "UnloadAdapter", "UnloadModel")
    ]
    assert {(event.principal, event.token_id[:4]) for event in done} == {("ann", "tok-")}
    assert done[0].resource == "test://a" and model.handle in done[3].resource
    assert all(event.peer.startswith("ipv4:127.0.0.1:") for event in done)
    assert all(event.peer.endswith(" reported by inf") for event in done)
    denied, foreign = await events(registry, "outcome = PERMISSION_DENIED")
    assert (denied.principal, denied.method) == ("bob", LOAD)
    assert (foreign.principal, foreign.method) == ("eve", "GET /v1/models")
    assert "belongs to project 'mine', not to 'x'" in foreign.message
    (stranger,) = await events(registry, "outcome = UNAUTHENTICATED")
    assert (stranger.principal, stranger.method) == ("", "GET /v1/models")


def event(method: str = LOAD, **fields: Any) -> pb.AuditEvent:
    given = {"time": Timestamp(seconds=1_700_000_000), "method": method, "outcome": "OK", "count": 1}
    return pb.AuditEvent(**(given | fields))


@pytest.mark.parametrize(
    ("role", "method", "accepted"),
    [
        ("inferencer", LOAD, True),
        ("worker", LOAD, True),
        ("trainer", LOAD, False),
        ("trainer", "tunix_rt.v1.TrainingService/Validate", True),
        ("inferencer", "tunix_rt.v1.RunService/CreateRun", False),
        ("inferencer", "tunix_rt.v1.AccessService/CreatePrincipal", False),
        ("inferencer", f"{LOAD} and more", False),
    ],
)
async def test_a_service_reports_its_own_calls_only(
    registry: Any, refusal: Any, role: str, method: str, accepted: bool
) -> None:
    stub = access_pb2_grpc.AccessServiceStub(registry.channel(await made(registry, "a-service", role)))
    request = pb.RecordAuditEventsRequest(request_id=registry.request_id(), events=[event(), event(method)][1:])
    if accepted:
        for _ in range(2):  # a repeat is stored once
            assert (await stub.RecordAuditEvents(request, timeout=TIMEOUT)).stored == 1
    else:
        assert (await refusal(stub.RecordAuditEvents(request, timeout=TIMEOUT))).kind is PermissionDenied
    found = [each.method for each in await events(registry, "outcome = OK") if "RecordAudit" not in each.method]
    assert found == [method] * accepted


async def test_every_bad_field_of_an_event_is_named_and_its_time_is_not_in_the_future(
    registry: Any, refusal: Any
) -> None:
    stub = access_pb2_grpc.AccessServiceStub(registry.channel(await made(registry, "inf", "inferencer")))

    async def record(*given: pb.AuditEvent, lost: int = 0) -> Any:
        request = pb.RecordAuditEventsRequest(request_id=registry.request_id(), events=given, lost=lost)
        return await stub.RecordAuditEvents(request, timeout=TIMEOUT)

    bad = await refusal(record(event(), event(count=0, outcome="fine", time=None), lost=-1))
    assert bad.kind is InvalidInput
    assert bad.fields == ["events[1].count", "events[1].outcome", "events[1].time", "lost"]
    assert (await refusal(record())).fields == ["events"]
    assert (await refusal(record(*[event()] * 501))).fields == ["events"]
    await record(event(time=Timestamp(seconds=4_000_000_000), principal="x" * 5_000))
    (stored,) = await events(registry, f"method = {LOAD}")
    assert stored.time.seconds < 2_500_000_000 and len(stored.principal) == 500


async def test_events_wait_for_the_registry_and_those_that_were_lost_are_counted(
    registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_reports, "MAX_WAITING", 2)
    reports = AuditReports()
    for name in "abcd":
        reports.done(Call(f"/{LOAD}", "ipv4:10.0.0.7:1", inference_pb2.LoadModelRequest(reference=name)))
    async with open_channel("127.0.0.1:1", token="away") as nobody:
        with monkeypatch.context() as patched, pytest.raises(TunixError):
            patched.setattr(audit_reports, "_DEADLINE_SECONDS", 0.5)
            await reports.send(nobody)
    channel = registry.channel(await made(registry, "inf", "inferencer"))
    await reports.send(channel)
    await reports.send(channel)
    assert [each.resource for each in await events(registry, f"method = {LOAD}")] == ["a", "b"]
    (lost,) = await events(registry, "outcome = DATA_LOSS")
    assert (lost.principal, lost.count) == ("inf", 2)
