"""InferenceService over gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf import empty_pb2

from tunix_rt.contract.digests import check_digest
from tunix_rt.contract.generation import GENERATION_RULES
from tunix_rt.errors import NotFound, Violations
from tunix_rt.inferencer import streams
from tunix_rt.inferencer.adapter_pool import AdapterPool, ServedModel
from tunix_rt.inferencer.driver import Driver
from tunix_rt.inferencer.generation import Delta, GenerationRequest
from tunix_rt.inferencer.messages import (
    check_load_adapter,
    check_request,
    check_score,
    read_request,
    read_score,
    write_adapter,
    write_model,
    write_response,
    write_score,
    write_stream,
)
from tunix_rt.inferencer.model_pool import LoadedModel, ModelPool
from tunix_rt.inferencer.text import Transcript
from tunix_rt.rpc.auth import current_principal
from tunix_rt.v1 import inference_pb2, inference_pb2_grpc

_Context = grpc.aio.ServicerContext[Any, Any]
_Request = TypeVar("_Request", inference_pb2.GenerateRequest, inference_pb2.ScoreRequest)
_Read = TypeVar("_Read", contravariant=True)


class _Reader(Protocol[_Read]):
    def __call__(self, request: _Read, model: ServedModel, /, *, caller: str, bad: Violations) -> GenerationRequest: ...


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """A cancelled RPC (client disconnected, deadline exceeded) cancels its handler, which frees the slot."""

    def __init__(self, pool: ModelPool, adapters: AdapterPool, driver: Driver) -> None:
        self._pool = pool
        self._adapters = adapters
        self._driver = driver

    async def Generate(
        self, request: inference_pb2.GenerateRequest, context: _Context
    ) -> inference_pb2.GenerateResponse:
        async with self._started(request, check_request(request), read_request, context) as (model, generation, deltas):
            return write_response([delta async for delta in deltas], generation, model)

    async def GenerateStream(
        self, request: inference_pb2.GenerateRequest, context: _Context
    ) -> AsyncIterator[inference_pb2.GenerateStreamResponse]:
        async with self._started(request, check_request(request), read_request, context) as (model, generation, deltas):
            count = 0
            async for delta in deltas:
                count += len(delta.tokens)
                yield write_stream(delta, generation, count, model)

    async def Score(self, request: inference_pb2.ScoreRequest, context: _Context) -> inference_pb2.ScoreResponse:
        async with self._started(request, check_score(request), read_score, context) as (model, generation, deltas):
            return write_score([delta async for delta in deltas], generation, model)

    async def LoadModel(self, request: inference_pb2.LoadModelRequest, context: _Context) -> inference_pb2.LoadedModel:
        bad = Violations()
        bad.check(bool(request.reference), "reference", "must be file://, hf://, gguf:// or pkg://")
        if request.expected_digest:
            check_digest(request.expected_digest, "expected_digest", bad)
        GENERATION_RULES["weight_format"].check(request.weight_format, "weight_format", bad)
        bad.raise_if_any()
        model = await self._pool.load(request.reference, request.expected_digest, request.weight_format)
        return self._written(model)

    async def UnloadModel(self, request: inference_pb2.UnloadModelRequest, context: _Context) -> empty_pb2.Empty:
        self._pool.unload(request.handle)
        return empty_pb2.Empty()

    async def ListLoadedModels(
        self, request: inference_pb2.ListLoadedModelsRequest, context: _Context
    ) -> inference_pb2.ListLoadedModelsResponse:
        return inference_pb2.ListLoadedModelsResponse(models=[self._written(model) for model in self._pool.models()])

    async def LoadAdapter(
        self, request: inference_pb2.LoadAdapterRequest, context: _Context
    ) -> inference_pb2.LoadedAdapter:
        check_load_adapter(request).raise_if_any()
        return write_adapter(await self._adapters.load(request.model, request.reference, request.expected_digest))

    async def UnloadAdapter(self, request: inference_pb2.UnloadAdapterRequest, context: _Context) -> empty_pb2.Empty:
        self._adapters.unload(request.handle)
        return empty_pb2.Empty()

    def _written(self, model: LoadedModel) -> inference_pb2.LoadedModel:
        return write_model(model, self._adapters.of(model))

    @asynccontextmanager
    async def _started(
        self, request: _Request, bad: Violations, read: _Reader[_Request], context: _Context
    ) -> AsyncIterator[tuple[ServedModel, GenerationRequest, AsyncGenerator[Delta, None]]]:
        if self._pool.find(request.model) is None:
            bad.raise_if_any()
            raise NotFound(f"model {request.model!r} is not loaded here; call LoadModel first")
        with self._adapters.using(request.model, request.adapter) as model:
            # Clients that share a token are separate callers.
            caller = f"{current_principal().name}@{context.peer()}"
            reading = partial(read, request, model, caller=caller, bad=bad)
            size = request.ByteSize()
            if request.WhichOneof("input") == "tokens":
                generation = await streams.read_apart(size, reading)
            else:
                generation = await model.servable.threads.run(size, reading)
            transcript = Transcript(model.servable.tokenizer.detokenizer(), generation.stop)
            deltas = streams.generate(self._driver, model.scheduler, generation, transcript)
            async with aclosing(deltas):
                yield model, generation, deltas
