"""Text generation: finds the model, has it loaded, generates or scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf import empty_pb2

from tunix_rt.client.arguments import to_message
from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.groups.models import Models
from tunix_rt.client.operations import Call, Flow, Prepared, Steps, Stream, streamed, unary
from tunix_rt.v1 import common_pb2, models_pb2
from tunix_rt.v1 import inference_pb2 as pb
from tunix_rt.v1.inference_pb2_grpc import InferenceServiceStub as Stub

LOAD_SECONDS = 600.0
GENERATE_SECONDS = 600.0

# Text is one user turn; a list of (role, content) pairs is a conversation.
Prompt: TypeAlias = str | Sequence[tuple[str, str]]


@dataclass(frozen=True)
class TextScore:
    """A text's tokens with the natural logarithm of their probability, each given those before it.

    Nothing is said of the first token: ``logprobs`` has one fewer than ``response.token_ids``. The response has every
    token's text and its runners-up.
    """

    response: pb.ScoreResponse

    @property
    def logprobs(self) -> list[float]:
        """Of each token after the first."""
        return [token.logprob for token in self.response.logprobs]

    @property
    def total(self) -> float:
        """Of the whole text behind its first token."""
        return math.fsum(self.logprobs)

    @property
    def mean(self) -> float | None:
        """Per token; None for a text of one token. Perplexity is exp(-mean)."""
        return self.total / len(self.logprobs) if self.logprobs else None


class Inference(Group[Mode]):
    """``client.inference``; `generate`, `generate_stream` and `score` are on the client itself."""

    @one
    @staticmethod
    def load(reference: str, *, expected_digest: str = "", weight_format: str = "") -> Flow[pb.LoadedModel]:
        """Load a model and return when it can generate; no work if it is loaded.

        ``reference`` is file://, hf://, …, or a version of the registry: its id, ``name@alias`` or ``name/version``.
        ``weight_format`` "int8-v1" is faster and smaller, and gives slightly other answers; "" is float32.
        """
        return Flow(lambda: _loaded(reference, expected_digest, weight_format))

    @one
    @staticmethod
    def generate(
        handle: str, prompt: Prompt, *, config: common_pb2.GenerationConfig | Mapping[str, Any] | None = None
    ) -> Call[pb.GenerateResponse]:
        """The whole answer of the loaded model with this handle; `NotFound` once the inferencer has forgotten it."""
        request = _request(prompt, config, False, 0)
        request.model = handle
        return unary(Stub, lambda stub: stub.Generate, request, peer="inferencer", deadline_seconds=GENERATE_SECONDS)

    @one
    @staticmethod
    def unload(handle: str) -> Call[empty_pb2.Empty]:
        """Free a loaded model's memory."""
        request = pb.UnloadModelRequest(handle=handle)
        return unary(Stub, lambda stub: stub.UnloadModel, request, peer="inferencer")

    @one
    @staticmethod
    def load_adapter(handle: str, reference: str, *, expected_digest: str = "") -> Flow[pb.LoadedAdapter]:
        """Load an adapter, named as models are, onto the loaded model with this handle; no work if it is loaded."""
        return Flow(lambda: _adapter(handle, reference, expected_digest))

    @one
    @staticmethod
    def unload_adapter(handle: str) -> Call[empty_pb2.Empty]:
        """Free a loaded adapter's place for another one."""
        request = pb.UnloadAdapterRequest(handle=handle)
        return unary(Stub, lambda stub: stub.UnloadAdapter, request, peer="inferencer")

    @one
    @staticmethod
    def loaded() -> Call[pb.ListLoadedModelsResponse]:
        """What the inferencer holds in memory."""
        return unary(Stub, lambda stub: stub.ListLoadedModels, pb.ListLoadedModelsRequest(), peer="inferencer")


class Generation(Group[Mode]):
    """What the client itself offers for generation."""

    @one
    @staticmethod
    def generate(
        model: str,
        prompt: Prompt,
        *,
        config: common_pb2.GenerationConfig | Mapping[str, Any] | None = None,
        return_logprobs: bool = False,
        top_logprobs: int = 0,
        adapter: str = "",
    ) -> Flow[pb.GenerateResponse]:
        """The model's whole answer. ``model`` is a version id, ``name@alias``, ``name/version`` or a reference.

        ``adapter``, named in the same ways, is loaded onto the model and answers with it; the model must be its base.
        """
        request = _request(prompt, config, return_logprobs, top_logprobs)

        def steps() -> Steps[pb.GenerateResponse]:
            request.model, request.adapter = yield from _handles(model, adapter, request.config.weight_format)
            answer: pb.GenerateResponse = yield unary(
                Stub, lambda stub: stub.Generate, request, peer="inferencer", deadline_seconds=GENERATE_SECONDS
            )
            return answer

        return Flow(steps)

    @many
    @staticmethod
    def generate_stream(
        model: str,
        prompt: Prompt,
        *,
        config: common_pb2.GenerationConfig | Mapping[str, Any] | None = None,
        return_logprobs: bool = False,
        top_logprobs: int = 0,
        adapter: str = "",
    ) -> Prepared[pb.GenerateStreamResponse]:
        """The answer piece by piece, as it is generated; the last piece carries the finish reason and the usage."""
        request = _request(prompt, config, return_logprobs, top_logprobs)

        def steps() -> Steps[Stream[pb.GenerateStreamResponse]]:
            request.model, request.adapter = yield from _handles(model, adapter, request.config.weight_format)
            return streamed(Stub, lambda stub: stub.GenerateStream, request, lambda piece: piece, peer="inferencer")

        return Prepared(steps)

    @one
    @staticmethod
    def score(
        model: str, text: str | Sequence[int], *, top_logprobs: int = 0, weight_format: str = "", adapter: str = ""
    ) -> Flow[TextScore]:
        """How likely ``model`` (as in `generate`) finds a text, or token ids; with ``top_logprobs`` (0..20) runners-up.

        A text is tokenized as it is: without a chat template and without a token that begins it. ``weight_format`` as
        in `Inference.load`, ``adapter`` as in `generate`.
        """
        given = {"text": text} if isinstance(text, str) else {"tokens": {"token_ids": text}}
        request = to_message(pb.ScoreRequest, {**given, "top_logprobs": top_logprobs})

        def steps() -> Steps[TextScore]:
            request.model, request.adapter = yield from _handles(model, adapter, weight_format)
            answer: pb.ScoreResponse = yield unary(
                Stub, lambda stub: stub.Score, request, peer="inferencer", deadline_seconds=GENERATE_SECONDS
            )
            return TextScore(answer)

        return Flow(steps)


def _request(
    prompt: Prompt,
    config: common_pb2.GenerationConfig | Mapping[str, Any] | None,
    return_logprobs: bool,
    top_logprobs: int,
) -> pb.GenerateRequest:
    turns = [("user", prompt)] if isinstance(prompt, str) else prompt
    messages = [pb.ChatMessage(role=role, content=content) for role, content in turns]
    return pb.GenerateRequest(
        chat=pb.ChatInput(messages=messages),
        config=to_message(common_pb2.GenerationConfig, config, "config"),
        return_logprobs=return_logprobs,
        top_logprobs=top_logprobs,
    )


def _handles(model: str, adapter: str, weight_format: str) -> Steps[tuple[str, str]]:
    """The inferencer's handles of a model and of an adapter on it ("" for none), which are loaded if need be."""
    loaded = yield from _loaded(model, weight_format=weight_format)
    if not adapter:
        return loaded.handle, ""
    added = yield from _adapter(loaded.handle, adapter)
    return loaded.handle, added.handle


def _loaded(model: str, digest: str = "", weight_format: str = "") -> Steps[pb.LoadedModel]:
    """The inferencer's model."""
    reference, digest = yield from _reference(model, digest)
    request = pb.LoadModelRequest(reference=reference, expected_digest=digest, weight_format=weight_format)
    loaded: pb.LoadedModel = yield unary(
        Stub, lambda stub: stub.LoadModel, request, peer="inferencer", deadline_seconds=LOAD_SECONDS
    )
    return loaded


def _adapter(handle: str, adapter: str, digest: str = "") -> Steps[pb.LoadedAdapter]:
    """The inferencer's adapter on a loaded model."""
    reference, digest = yield from _reference(adapter, digest)
    request = pb.LoadAdapterRequest(model=handle, reference=reference, expected_digest=digest)
    added: pb.LoadedAdapter = yield unary(
        Stub, lambda stub: stub.LoadAdapter, request, peer="inferencer", deadline_seconds=LOAD_SECONDS
    )
    return added


def _reference(name: str, digest: str) -> Steps[tuple[str, str]]:
    """Reference and digest; references are loaded as they are, all else is asked of the registry."""
    if "://" in name and not name.startswith("model://"):
        return name, digest
    version: models_pb2.ModelVersion = yield Models.get(name.removeprefix("model://"))
    return version.reference, digest or version.artifact.digest
