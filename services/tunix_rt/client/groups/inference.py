"""Text generation: finds the model, has it loaded, generates or scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

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
    def unload(handle: str) -> Call[pb.UnloadModelResponse]:
        """Free a loaded model's memory."""
        request = pb.UnloadModelRequest(handle=handle)
        return unary(Stub, lambda stub: stub.UnloadModel, request, peer="inferencer")

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
    ) -> Flow[pb.GenerateResponse]:
        """The model's whole answer. ``model`` is a version id, ``name@alias``, ``name/version`` or a reference."""
        request = _request(prompt, config, return_logprobs, top_logprobs)

        def steps() -> Steps[pb.GenerateResponse]:
            request.model = yield from _handle(model, request.config.weight_format)
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
    ) -> Prepared[pb.GenerateStreamResponse]:
        """The answer piece by piece, as it is generated; the last piece carries the finish reason and the usage."""
        request = _request(prompt, config, return_logprobs, top_logprobs)

        def steps() -> Steps[Stream[pb.GenerateStreamResponse]]:
            request.model = yield from _handle(model, request.config.weight_format)
            return streamed(Stub, lambda stub: stub.GenerateStream, request, lambda piece: piece, peer="inferencer")

        return Prepared(steps)

    @one
    @staticmethod
    def score(
        model: str, text: str | Sequence[int], *, top_logprobs: int = 0, weight_format: str = ""
    ) -> Flow[TextScore]:
        """How likely ``model`` (as in `generate`) finds a text, or token ids; with ``top_logprobs`` (0..20) runners-up.

        A text is tokenized as it is: without a chat template and without a token that begins it. ``weight_format`` as
        in `Inference.load`.
        """
        given = {"text": text} if isinstance(text, str) else {"tokens": {"token_ids": text}}
        request = to_message(pb.ScoreRequest, {**given, "top_logprobs": top_logprobs})

        def steps() -> Steps[TextScore]:
            request.model = yield from _handle(model, weight_format)
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


def _handle(model: str, weight_format: str = "") -> Steps[str]:
    """The inferencer's handle of a model that is loaded if need be."""
    loaded = yield from _loaded(model, weight_format=weight_format)
    return loaded.handle


def _loaded(model: str, digest: str = "", weight_format: str = "") -> Steps[pb.LoadedModel]:
    """The inferencer's model; references are loaded as they are, all else is asked of the registry."""
    reference = model
    if model.startswith("model://") or "://" not in model:
        version: models_pb2.ModelVersion = yield Models.get(model.removeprefix("model://"))
        reference, digest = version.reference, digest or version.artifact.digest
    request = pb.LoadModelRequest(reference=reference, expected_digest=digest, weight_format=weight_format)
    loaded: pb.LoadedModel = yield unary(
        Stub, lambda stub: stub.LoadModel, request, peer="inferencer", deadline_seconds=LOAD_SECONDS
    )
    return loaded
