"""The HTTP endpoints."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from aiohttp import web

from tunix_rt.errors import NotFound
from tunix_rt.inferencer.adapter_pool import AdapterPool, ServedModel
from tunix_rt.inferencer.driver import Driver
from tunix_rt.inferencer.generation import Delta, GenerationRequest
from tunix_rt.inferencer.http import chat, completions
from tunix_rt.inferencer.http.answers import Answer, Document, Head, Usage
from tunix_rt.inferencer.http.chat import plan_chat, read_chat
from tunix_rt.inferencer.http.completions import plan_completion, read_completion
from tunix_rt.inferencer.http.event_stream import EventStream
from tunix_rt.inferencer.http.fields import json_object
from tunix_rt.inferencer.http.options import Options
from tunix_rt.inferencer.model_pool import ModelPool
from tunix_rt.inferencer.streams import read_apart, submitted
from tunix_rt.inferencer.text import Transcript
from tunix_rt.rpc.auth import current_principal

BODY_SECONDS = 60.0


class Endpoints:
    """The handlers. A disconnected client cancels its handler, which frees the slots."""

    def __init__(
        self, pool: ModelPool, adapters: AdapterPool, driver: Driver, clock: Callable[[], float] = time.time
    ) -> None:
        self._pool = pool
        self._adapters = adapters
        self._driver = driver
        self._clock = clock

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/v1/models", self.list_models)
        # The name may be a reference, which contains slashes.
        app.router.add_get("/v1/models/{model:.+}", self.show_model)
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_post("/v1/chat/completions", self.chat)

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        served = [one for model in self._pool.models() for one in self._adapters.served(model)]
        return web.json_response({"object": "list", "data": [_model(one) for one in served]})

    async def show_model(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(_model(self._find(request.match_info["model"])))

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        asked = await read_apart(len(body), lambda: read_completion(json_object(body)))
        with self._using(asked.options.model) as model:
            plan = partial(plan_completion, asked, model, _caller(request, asked.options))
            generations = await model.servable.threads.run(len(body), plan)
            tokenizer, n = model.servable.tokenizer, asked.options.n
            choices = [
                completions.CompletionChoice(
                    index, generation, asked.prompts[index // n] if asked.echo else None, tokenizer
                )
                for index, generation in enumerate(generations)
            ]
            answer = Answer(self._head("cmpl", model), completions.KIND, completions.KIND, choices)
            return await self._answered(request, asked.options, model, generations, answer)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        asked = await read_apart(len(body), lambda: read_chat(json_object(body)))
        with self._using(asked.options.model) as model:
            plan = partial(plan_chat, asked, model, _caller(request, asked.options))
            generations = await model.servable.threads.run(len(body), plan)
            tokenizer = model.servable.tokenizer
            choices = [chat.ChatChoice(i, generation, tokenizer) for i, generation in enumerate(generations)]
            answer = Answer(self._head("chatcmpl", model), chat.KIND, chat.CHUNK_KIND, choices)
            return await self._answered(request, asked.options, model, generations, answer)

    async def _answered(
        self,
        request: web.Request,
        options: Options,
        model: ServedModel,
        generations: Sequence[GenerationRequest],
        answer: Answer,
    ) -> web.StreamResponse:
        tokenizer, usage = model.servable.tokenizer, Usage(generations, options.n)
        waiting = [(generation, Transcript(tokenizer.detokenizer(), generation.stop)) for generation in generations]
        # All requests are queued before the first byte is sent, so an error sets the status code.
        with submitted(self._driver, model.scheduler, waiting) as deltas:
            if options.stream:
                return await _stream(request, deltas, answer, usage, options.include_usage)
            pieces: list[list[Document]] = [[] for _ in generations]
            async for index, delta in deltas:
                usage.add(index, delta)
                piece = answer.choices[index].piece(delta)
                pieces[index] += [piece] if piece is not None else []
            whole = [choice.whole(pieces[index]) for index, choice in enumerate(answer.choices)]
            return web.json_response(answer.document(whole) | {"usage": usage.document()}, dumps=_strict_json)

    def _find(self, name: str) -> ServedModel:
        model = self._adapters.find(name)
        if model is None:
            raise NotFound(f"model {name!r} is not loaded here; load it first, then use its handle from /v1/models")
        return model

    @contextmanager
    def _using(self, name: str) -> Iterator[ServedModel]:
        found = self._find(name)
        with self._adapters.using(found.model.handle, found.adapter_name) as model:
            yield model

    def _head(self, prefix: str, model: ServedModel) -> Head:
        whole = "-".join(filter(None, (model.digest, model.weight_format)))
        fingerprint = "+".join(filter(None, (whole, model.adapter_digest)))
        return Head(f"{prefix}-{uuid.uuid4().hex}", int(self._clock()), model.handle, fingerprint)


async def _stream(
    request: web.Request,
    deltas: AsyncIterator[tuple[int, Delta]],
    answer: Answer,
    usage: Usage,
    include_usage: bool,
) -> web.StreamResponse:
    async with EventStream(request) as events:
        extra: Document = {"usage": None} if include_usage else {}
        async for index, delta in deltas:
            usage.add(index, delta)
            piece = answer.choices[index].piece(delta)
            if piece is not None:
                await events.send(answer.piece([piece]) | extra)
        if include_usage:
            await events.send(answer.piece([]) | {"usage": usage.document()})
    return events.response


async def _body(request: web.Request) -> bytes:
    """The body, which may take a minute to come."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error


def _caller(request: web.Request, options: Options) -> str:
    """The caller for fair scheduling: a host, and each ``user`` that a client names on it."""
    return f"{current_principal().name}@{request.remote}/{options.user}"


def _model(served: ServedModel) -> Document:
    """The model object; the ``parent`` of an adapter is its model."""
    loaded = served.adapter or served.model
    return {
        "id": served.handle,
        "object": "model",
        "created": loaded.loaded_at,
        "owned_by": "tunix-rt",
        "root": served.reference,
        "parent": served.adapter and served.model.handle,
        "max_model_len": served.servable.engine.capacity,
        "weight_format": served.weight_format,
    }


def _strict_json(document: object) -> str:
    return json.dumps(document, allow_nan=False)
