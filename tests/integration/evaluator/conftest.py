"""A registry and an inferencer behind real gRPC, whose answers can be worked out by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.message import Message
from tests.fixtures.fake_jobs import FakeJobs
from tests.fixtures.grpc_server import serving

from tunix_rt.errors import Exhausted, NotFound, Transient, TunixError, Violations
from tunix_rt.evaluator.app import evaluating
from tunix_rt.evaluator.attempt import Limits
from tunix_rt.evaluator.grpc_inferencer import GrpcInferencer
from tunix_rt.evaluator.grpc_recorder import GrpcRecorder
from tunix_rt.quality.scorers import BUILT_IN_SCORERS
from tunix_rt.rpc.channel import open_channel
from tunix_rt.v1 import (
    common_pb2,
    evalsets_pb2,
    evaluations_pb2,
    evaluations_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
)
from tunix_rt.worker.grpc_jobs import GrpcJobs
from tunix_rt.worker.handler import JobHandler

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


class FakeRegistry(FakeJobs, evaluations_pb2_grpc.EvaluationServiceServicer):
    job_id = "eval-1"

    def __init__(self) -> None:
        super().__init__()
        self.items: Sequence[evalsets_pb2.EvalSetItem] = [question(n) for n in range(1, 6)]
        self.samples_per_item = 1
        self.generation = common_pb2.GenerationConfig(max_new_tokens=32, temperature=0.5, seed=100, prompt_version=2)
        self.stored: dict[tuple[str, int], evaluations_pb2.ItemResult] = {}
        self.batches: list[int] = []
        self.changed = asyncio.Condition()

    def payload(self) -> dict[str, Message]:
        evaluation = evaluations_pb2.Evaluation(
            id="eval-1", generation=self.generation, samples_per_item=self.samples_per_item
        )
        payload = jobs_pb2.EvaluationPayload(
            evaluation=evaluation,
            model=common_pb2.Artifact(uri="file:///models/m", digest=DIGEST),
            items=self.items,
            recorded=[jobs_pb2.RecordedItem(item_id=i, sample_index=s) for i, s in self.stored],
        )
        return {"evaluation": payload}

    async def RecordItems(self, request, context):  # type: ignore[no-untyped-def]
        self.check()
        async with self.changed:
            for result in request.results:
                self.stored.setdefault((result.item_id, result.sample_index), result)
            self.batches.append(len(request.results))
            self.changed.notify_all()
        return evaluations_pb2.RecordItemsResponse(stored=len(request.results))

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


LIMITS = Limits(concurrency=3, batch=2, item_tries=2, inferencer_patience_seconds=20)


@dataclass
class House:
    registry: FakeRegistry
    inferencer: FakeInferencer
    channel: grpc.aio.Channel
    stop: asyncio.Event

    def handler(self, limits: Limits = LIMITS) -> JobHandler[jobs_pb2.EvaluationPayload]:
        inferencer = GrpcInferencer(self.channel, load_timeout=10, generate_timeout=10)
        carry_out = evaluating(GrpcRecorder(self.channel), lambda _: inferencer, limits, BUILT_IN_SCORERS)
        jobs = GrpcJobs(self.channel, jobs_pb2.JOB_KIND_EVALUATION, "worker-1")
        return JobHandler(jobs, carry_out, self.stop, heartbeat_seconds=0.05)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    registry, inferencer = FakeRegistry(), FakeInferencer()

    def register(server: grpc.aio.Server) -> Sequence[str]:
        jobs_pb2_grpc.add_JobServiceServicer_to_server(registry, server)
        evaluations_pb2_grpc.add_EvaluationServiceServicer_to_server(registry, server)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(inferencer, server)
        return ()

    async with serving(register) as port, open_channel(f"127.0.0.1:{port}", token=None) as channel:
        yield House(registry, inferencer, channel, asyncio.Event())
        inferencer.let_go.set()
