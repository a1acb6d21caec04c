"""A real server and real channels; the servicer under test is a small one of the contract's ScoringService."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tunix_rt import errors
from tunix_rt.observability import propagation
from tunix_rt.observability.tracing import configure_tracing
from tunix_rt.rpc.auth import Authorizer, Principal, StaticTokenAuthorizer, current_principal
from tunix_rt.rpc.channel import open_channel, open_sync_channel
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.rpc.server import serve_grpc
from tunix_rt.rpc.settings import ServerSettings
from tunix_rt.v1 import evalsets_pb2, runs_pb2, runs_pb2_grpc, scoring_pb2, scoring_pb2_grpc

SERVICE = "tunix_rt.v1.ScoringService"
VALIDATE = scoring_pb2.ValidateEvalSetRequest


class Scoring(scoring_pb2_grpc.ScoringServiceServicer):
    """Raises what it is told to raise; ``ScoreItems`` waits until it is let go."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.let_go = asyncio.Event()
        self.entered = asyncio.Event()
        self.principal: Principal | None = None
        self.time_left: float | None = None
        self.traceparent = ""
        self.calls = 0

    async def ValidateEvalSet(self, request, context):  # type: ignore[no-untyped-def]
        self.calls += 1
        self.principal = current_principal()
        self.time_left = context.time_remaining()
        self.traceparent = propagation.inject()
        if self.error is not None:
            raise self.error
        return scoring_pb2.ValidateEvalSetResponse(
            valid=True, statistics=evalsets_pb2.EvalSet(item_count=len(request.jsonl))
        )

    async def ScoreItems(self, request, context):  # type: ignore[no-untyped-def]
        self.entered.set()
        await self.let_go.wait()
        return scoring_pb2.ScoreItemsResponse(scorer_version="done")


class Runs(runs_pb2_grpc.RunServiceServicer):
    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.left: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()

    async def WatchRun(self, request, context):  # type: ignore[no-untyped-def]
        if request.id == "endless":
            self.task = asyncio.current_task()
            try:
                while True:  # more than a connection takes, so that it is always gRPC that waits, to write
                    yield runs_pb2.WatchRunResponse(run=runs_pb2.Run(id="x" * (1 << 20)))
            finally:
                self.left = asyncio.current_task()
                self.ended.set()
        yield runs_pb2.WatchRunResponse(run=runs_pb2.Run(id=request.id, attempts=1))
        yield runs_pb2.WatchRunResponse(run=runs_pb2.Run(id=request.id, attempts=2))
        raise errors.NotFound(f"{request.id} was deleted")


class Running:
    def __init__(self) -> None:
        self.scoring = Scoring()
        self.runs = Runs()
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        self.address = ""


@asynccontextmanager
async def serving(
    *, authorizer: Authorizer | None = None, ready: bool = True, max_concurrent_rpcs: int = 1000, grace: float = 5
) -> AsyncIterator[Running]:
    running = Running()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def register(server: grpc.aio.Server) -> Sequence[str]:
        scoring_pb2_grpc.add_ScoringServiceServicer_to_server(running.scoring, server)
        runs_pb2_grpc.add_RunServiceServicer_to_server(running.runs, server)
        return (SERVICE, "tunix_rt.v1.RunService")

    if ready:
        running.ready.set()
    settings = ServerSettings(listen="127.0.0.1:0", max_concurrent_rpcs=max_concurrent_rpcs, grace_seconds=grace)
    task = asyncio.create_task(
        serve_grpc(
            register,
            settings,
            authorizer=authorizer,
            ready=running.ready,
            stop=running.stop,
            on_bound=bound.set_result,
        )
    )
    running.address = f"127.0.0.1:{await asyncio.wait_for(bound, 10)}"
    try:
        yield running
    finally:
        running.scoring.let_go.set()
        running.stop.set()
        await asyncio.wait_for(task, 10)


async def failing_call(running: Running, error: Exception) -> grpc.aio.AioRpcError:
    running.scoring.error = error
    async with open_channel(running.address, token=None) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await scoring_pb2_grpc.ScoringServiceStub(channel).ValidateEvalSet(VALIDATE())
    return caught.value


async def test_an_answer_comes_through_sync_and_async() -> None:
    async with serving() as running:
        async with open_channel(running.address, token=None) as channel:
            answer = await scoring_pb2_grpc.ScoringServiceStub(channel).ValidateEvalSet(VALIDATE(jsonl=b"abc"))
        assert answer.statistics.item_count == 3

        def sync_call() -> int:
            with open_sync_channel(running.address, token=None) as channel:
                return (
                    scoring_pb2_grpc.ScoringServiceStub(channel)
                    .ValidateEvalSet(VALIDATE(jsonl=b"ab"))
                    .statistics.item_count
                )

        assert await asyncio.to_thread(sync_call) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound("no run-1"), grpc.StatusCode.NOT_FOUND),
        (errors.Conflict("run-1 exists"), grpc.StatusCode.ALREADY_EXISTS),
        (errors.Aborted("epoch 1 is over"), grpc.StatusCode.ABORTED),
        (errors.FailedPrecondition("digests differ"), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.Unauthenticated("who are you"), grpc.StatusCode.UNAUTHENTICATED),
        (errors.PermissionDenied("not you"), grpc.StatusCode.PERMISSION_DENIED),
        (errors.Exhausted("full", 7.5), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.InvalidArtifact("truncated"), grpc.StatusCode.DATA_LOSS),
    ],
)
async def test_every_error_crosses_and_comes_back(error: errors.TunixError, code: grpc.StatusCode) -> None:
    async with serving() as running:
        caught = await failing_call(running, error)
    assert caught.code() is code
    assert caught.details() == str(error)
    back = from_rpc_error(caught)
    assert type(back) is type(error)
    assert str(back) == str(error)
    if isinstance(back, errors.Exhausted):
        assert back.retry_after_seconds == 7.5


async def test_every_violation_crosses_and_comes_back() -> None:
    found = [errors.FieldViolation(f"spec.field_{n}", f"must be under {n}, see the docs – é") for n in range(40)]
    async with serving() as running:
        caught = await failing_call(running, errors.InvalidInput(found))
    assert caught.code() is grpc.StatusCode.INVALID_ARGUMENT
    back = from_rpc_error(caught)
    assert isinstance(back, errors.InvalidInput)
    assert list(back.violations) == found


async def test_thousands_of_violations_fit_into_a_plain_clients_metadata() -> None:
    found = [errors.FieldViolation(f"line {n}.expected_answer", "é" * 50) for n in range(5000)]
    async with serving() as running:
        running.scoring.error = errors.InvalidInput(found)
        async with grpc.aio.insecure_channel(running.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await scoring_pb2_grpc.ScoringServiceStub(channel).ValidateEvalSet(VALIDATE())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    back = from_rpc_error(caught.value)
    assert isinstance(back, errors.InvalidInput)
    kept = len(back.violations) - 1
    assert kept > 20
    assert list(back.violations[:kept]) == found[:kept]
    assert back.violations[kept] == errors.FieldViolation("", f"and {5000 - kept} more violations")


async def test_an_unforeseen_error_is_internal_and_keeps_its_text_to_itself() -> None:
    async with serving() as running:
        caught = await failing_call(running, RuntimeError("password=hunter2"))
    assert caught.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in (caught.details() or "")


async def test_unavailable_is_retried_and_nothing_else_is() -> None:
    async with serving() as running:
        caught = await failing_call(running, errors.Transient("database is locked"))
        assert caught.code() is grpc.StatusCode.UNAVAILABLE
        assert isinstance(from_rpc_error(caught), errors.Transient)
        assert running.scoring.calls == 4
        await failing_call(running, errors.Aborted("old"))
        assert running.scoring.calls == 5


async def test_a_stream_whose_client_leaves_between_writes_ends_at_once_in_its_own_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as running, open_channel(running.address, token=None) as channel:
        stream = runs_pb2_grpc.RunServiceStub(channel).WatchRun(runs_pb2.WatchRunRequest(id="endless"))
        await stream.read()
        stream.cancel()
        await asyncio.wait_for(running.runs.ended.wait(), 10)
    assert running.runs.left is running.runs.task is not None
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_stream_that_fails_gives_what_it_had_then_the_error() -> None:
    async with serving() as running, open_channel(running.address, token=None) as channel:
        seen = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for update in runs_pb2_grpc.RunServiceStub(channel).WatchRun(runs_pb2.WatchRunRequest(id="run-1")):
                seen.append(update.run.attempts)
    assert seen == [1, 2]
    assert str(from_rpc_error(caught.value)) == "run-1 was deleted"


async def test_what_no_servicer_implements_is_unimplemented() -> None:
    async with serving() as running, open_channel(running.address, token=None) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await runs_pb2_grpc.RunServiceStub(channel).GetRun(runs_pb2.GetRunRequest(id="run-1"))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


class Tokens:
    """An authorizer that answers later, as one over a database does."""

    async def authenticate(self, token: str | None) -> Principal:
        await asyncio.sleep(0)
        if token not in ("viewer-token", "worker-token"):
            raise errors.Unauthenticated("unknown token")
        role = token.split("-")[0]
        return Principal(role, frozenset({role}))  # type: ignore[arg-type]


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_without_a_known_token_nothing_is_served_but_health(token: str | None) -> None:
    authorizer = StaticTokenAuthorizer("right", Principal("platform", frozenset({"admin"})))
    async with serving(authorizer=authorizer) as running, open_channel(running.address, token=token) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await scoring_pb2_grpc.ScoringServiceStub(channel).ValidateEvalSet(VALIDATE())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert running.scoring.calls == 0
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_principal_is_known_to_the_handler() -> None:
    async with serving(authorizer=Tokens()) as running, open_channel(running.address, token="viewer-token") as channel:
        await scoring_pb2_grpc.ScoringServiceStub(channel).ValidateEvalSet(VALIDATE())
        assert running.scoring.principal == Principal("viewer", frozenset({"viewer"}))


async def test_a_viewer_may_not_do_a_workers_calls_and_the_answer_says_why() -> None:
    async with serving(authorizer=Tokens()) as running:
        async with open_channel(running.address, token="viewer-token") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await runs_pb2_grpc.RunServiceStub(channel).ReportMetrics(runs_pb2.ReportMetricsRequest())
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "needs the permission 'train'" in (caught.value.details() or "")
        async with open_channel(running.address, token="worker-token") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await runs_pb2_grpc.RunServiceStub(channel).ReportMetrics(runs_pb2.ReportMetricsRequest())
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_every_call_has_a_deadline() -> None:
    async with serving() as running, open_channel(running.address, token=None) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        await stub.ValidateEvalSet(VALIDATE())
        assert running.scoring.time_left is not None
        assert 25 < running.scoring.time_left <= 31  # each side has a clock of its own
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ScoreItems(scoring_pb2.ScoreItemsRequest(), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert isinstance(from_rpc_error(caught.value), errors.Transient)


async def test_a_request_over_16_mib_is_refused_and_one_under_it_is_not() -> None:
    async with serving() as running, open_channel(running.address, token=None) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        size = 15 * 1024 * 1024
        assert (await stub.ValidateEvalSet(VALIDATE(jsonl=b"x" * size))).statistics.item_count == size
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ValidateEvalSet(VALIDATE(jsonl=b"x" * (17 * 1024 * 1024)))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert isinstance(from_rpc_error(caught.value), errors.InvalidInput)
        assert running.scoring.calls == 1


async def test_health_says_serving_only_when_ready() -> None:
    async with serving(ready=False) as running, open_channel(running.address, token=None) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        updates = aiter(watch)
        assert (await anext(updates)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        running.ready.set()
        assert (await asyncio.wait_for(anext(updates), 5)).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


async def test_reflection_names_every_service() -> None:
    async with serving() as running, grpc.aio.insecure_channel(running.address) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        answer = await anext(aiter(call))
        names = {service.name for service in answer.list_services_response.service}
        call.cancel()
    assert {SERVICE, "tunix_rt.v1.RunService", "grpc.health.v1.Health"} <= names


async def test_calls_over_the_limit_are_exhausted_and_health_still_answers() -> None:
    async with serving(max_concurrent_rpcs=1) as running, open_channel(running.address, token=None) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        first = asyncio.ensure_future(stub.ScoreItems(scoring_pb2.ScoreItemsRequest()))
        await asyncio.wait_for(running.scoring.entered.wait(), 5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ValidateEvalSet(VALIDATE())
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        running.scoring.let_go.set()
        assert (await first).scorer_version == "done"
        assert (await stub.ValidateEvalSet(VALIDATE())).valid


async def test_sigterm_lets_running_calls_finish_and_refuses_new_ones() -> None:
    async with serving() as running, open_channel(running.address, token=None) as channel:
        stub = scoring_pb2_grpc.ScoringServiceStub(channel)
        first = asyncio.ensure_future(stub.ScoreItems(scoring_pb2.ScoreItemsRequest()))
        await asyncio.wait_for(running.scoring.entered.wait(), 5)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running.stop.wait(), 5)
        running.scoring.let_go.set()
        assert (await first).scorer_version == "done"


async def test_the_trace_goes_on_in_the_server() -> None:
    configure_tracing("test")
    async with serving() as running, open_channel(running.address, token=None) as channel:
        with propagation.span("client"):
            sent = propagation.inject()
            await scoring_pb2_grpc.ScoringServiceStub(channel).ValidateEvalSet(VALIDATE())
    assert running.scoring.traceparent.split("-")[1] == sent.split("-")[1]
    assert running.scoring.traceparent.split("-")[2] != sent.split("-")[2]


async def test_two_servers_cannot_share_a_port() -> None:
    async with serving() as running:
        with pytest.raises(errors.FailedPrecondition, match="cannot serve on"):
            await serve_grpc(
                lambda _server: (),
                ServerSettings(listen=running.address),
                authorizer=None,
                ready=None,
                stop=asyncio.Event(),
            )
