"""A registry and an inferencer behind real gRPC, whose answers can be worked out by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import grpc
import pytest

from tunix_rt.errors import (
    Aborted,
    Exhausted,
    NotFound,
    Transient,
    TunixError,
    Violations,
)
from tunix_rt.evaluator.attempt import Limits
from tunix_rt.evaluator.grpc_inferencer import GrpcInferencer
from tunix_rt.evaluator.grpc_registry import GrpcRegistry
from tunix_rt.evaluator.handler import EvaluateHandler
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.server import serve_grpc
from tunix_rt.rpc.settings import ServerSettings
from tunix_rt.v1 import (
    common_pb2,
    evalsets_pb2,
    evaluations_pb2,
    evaluations_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
)

DIGEST = "sha256:" + "1" * 64


def question(number: int) -> evalsets_pb2.EvalSetItem:
    return evalsets_pb2.EvalSetItem(
        id=f"q{number}",
        prompt=f"What is {number} + {number}?",
        expected_answer=str(2 * number),
        section=evalsets_pb2.SECTION_CORE,
        category="sums",
        difficulty=evalsets_pb2.DIFFICULTY_EASY,
        answer_type=evalsets_pb2.ANSWER_TYPE_NUMERIC,
        index=number,
    )


class FakeRegistry(evaluations_pb2_grpc.EvaluationServiceServicer):
    def __init__(self) -> None:
        self.items: Sequence[evalsets_pb2.EvalSetItem] = [question(n) for n in range(1, 6)]
        self.samples_per_item = 1
        self.generation = common_pb2.GenerationConfig(max_new_tokens=32, temperature=0.5, seed=100)
        self.stored: dict[tuple[str, int], evaluations_pb2.ItemResult] = {}
        self.batches: list[int] = []
        self.heartbeats: list[common_pb2.Progress] = []
        self.completion: evaluations_pb2.CompleteEvaluationRequest | None = None
        self.released = 0
        self.cancel_requested = False
        self.lost = False
        self.unavailable = 0
        self.retry_after: float | None = None
        self.changed = asyncio.Condition()

    async def ClaimEvaluation(self, request, context):  # type: ignore[no-untyped-def]
        if request.evaluation_id != "eval-1":
            raise NotFound(f"there is no evaluation {request.evaluation_id!r}")
        if self.retry_after is not None:
            return evaluations_pb2.ClaimEvaluationResponse(granted=False, retry_after_seconds=self.retry_after)
        return evaluations_pb2.ClaimEvaluationResponse(
            granted=True,
            lease=common_pb2.Lease(job_id="eval-1", attempt_id="att-1", epoch=1),
            evaluation=evaluations_pb2.Evaluation(
                id="eval-1", generation=self.generation, samples_per_item=self.samples_per_item
            ),
            model=common_pb2.Artifact(uri="file:///models/m", digest=DIGEST),
            items=self.items,
            recorded=[evaluations_pb2.RecordedItem(item_id=i, sample_index=s) for i, s in self.stored],
        )

    async def HeartbeatEvaluation(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        self.heartbeats.append(request.progress)
        return evaluations_pb2.HeartbeatEvaluationResponse(
            lease=request.lease,
            cancel_requested=self.cancel_requested,
            cancel_reason=common_pb2.REASON_USER_CANCELLED if self.cancel_requested else 0,
        )

    async def RecordItems(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        async with self.changed:
            for result in request.results:
                self.stored.setdefault((result.item_id, result.sample_index), result)
            self.batches.append(len(request.results))
            self.changed.notify_all()
        return evaluations_pb2.RecordItemsResponse(stored=len(request.results))

    async def CompleteEvaluation(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        self.completion = request
        return evaluations_pb2.Evaluation(id="eval-1", state=request.state)

    async def ReleaseEvaluation(self, request, context):  # type: ignore[no-untyped-def]
        self._check()
        self.released += 1
        return evaluations_pb2.ReleaseEvaluationResponse()

    def _check(self) -> None:
        if self.unavailable > 0:
            self.unavailable -= 1
            raise Transient("the database is away")
        if self.lost:
            raise Aborted("epoch 1 is over")

    async def until_stored(self, count: int) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: len(self.stored) >= count), 10)


class FakeInferencer(inference_pb2_grpc.InferenceServiceServicer):
    """Answers "What is n + n?" with 2n, as a well-formed trace."""

    def __init__(self) -> None:
        self.loads: list[inference_pb2.LoadModelRequest] = []
        self.requests: list[inference_pb2.GenerateRequest] = []
        self.digest = DIGEST
        self.load_error: TunixError | None = None
        self.unavailable = 0
        self.exhausted = 0
        self.broken: set[str] = set()
        self.too_long: set[str] = set()
        self.hold: set[str] = set()
        self.let_go = asyncio.Event()
        self.handles: set[str] = set()
        self.running = 0
        self.peak = 0
        self.forget_after: int | None = None

    async def LoadModel(self, request, context):  # type: ignore[no-untyped-def]
        if self.unavailable > 0:
            self.unavailable -= 1
            raise Transient("starting")
        if self.load_error is not None:
            raise self.load_error
        self.loads.append(request)
        handle = f"handle-{len(self.loads)}"
        self.handles = {handle}
        return inference_pb2.LoadedModel(handle=handle, digest=self.digest)

    async def Generate(self, request, context):  # type: ignore[no-untyped-def]
        if self.unavailable > 0:
            self.unavailable -= 1
            raise Transient("restarting")
        if self.exhausted > 0:
            self.exhausted -= 1
            raise Exhausted("queue full", 0.05)
        if request.model not in self.handles:
            raise NotFound(f"no model {request.model}")
        prompt = request.chat.messages[0].content
        number = int(prompt.split()[2])
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            if f"q{number}" in self.hold:
                await self.let_go.wait()
            await asyncio.sleep(0.01)
        finally:
            self.running -= 1
        if f"q{number}" in self.broken:
            raise RuntimeError("a kernel crashed")
        if f"q{number}" in self.too_long:
            violations = Violations()
            violations.add("chat", "600 prompt tokens do not fit into a context of 512")
            violations.raise_if_any()
        self.requests.append(request)
        if self.forget_after is not None and len(self.requests) >= self.forget_after:
            self.forget_after = None
            self.handles = set()
        answer = 2 * number if number != 3 else 7
        text = f"<reasoning>\n{number} and {number}\n</reasoning>\n<answer>{answer}</answer>"
        return inference_pb2.GenerateResponse(
            text=text,
            finish_reason=common_pb2.FINISH_REASON_STOP,
            usage=inference_pb2.Usage(prompt_tokens=11, completion_tokens=22),
            model_digest=self.digest,
        )


@dataclass
class House:
    registry: FakeRegistry
    inferencer: FakeInferencer
    handler: EvaluateHandler
    stop: asyncio.Event


@pytest.fixture
async def house() -> AsyncIterator[House]:
    registry, inferencer = FakeRegistry(), FakeInferencer()
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    server_stop, stop = asyncio.Event(), asyncio.Event()

    def register(server: grpc.aio.Server) -> Sequence[str]:
        evaluations_pb2_grpc.add_EvaluationServiceServicer_to_server(registry, server)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(inferencer, server)
        return ()

    serving = asyncio.create_task(
        serve_grpc(
            register,
            ServerSettings(listen="127.0.0.1:0", grace_seconds=0),
            authorizer=None,
            ready=None,
            stop=server_stop,
            on_bound=bound.set_result,
        )
    )
    address = f"127.0.0.1:{await asyncio.wait_for(bound, 10)}"
    limits = Limits(concurrency=3, batch=2, item_tries=2, inferencer_patience_seconds=20, heartbeat_seconds=0.05)
    async with open_channel(address, token=None) as channel:
        handler = EvaluateHandler(
            GrpcRegistry(channel, "worker-1"),
            GrpcInferencer(channel, load_timeout=10, generate_timeout=10),
            limits,
            stop,
        )
        yield House(registry, inferencer, handler, stop)
        inferencer.let_go.set()
    server_stop.set()
    await asyncio.wait_for(serving, 10)
