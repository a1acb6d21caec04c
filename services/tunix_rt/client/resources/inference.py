"""Text generation and log-probabilities: resolves the model, loads it, sends the request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tunix_rt.client.arguments import to_message
from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import Call, Flow, Prepared, Steps, Stream, no_result, streamed, unary
from tunix_rt.client.records import Record
from tunix_rt.client.resources.common import GenerationConfig
from tunix_rt.client.resources.models import Models, ModelVersion
from tunix_rt.contract.enums import FinishReason
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import inference_pb2 as pb
from tunix_rt.v1.inference_pb2_grpc import InferenceServiceStub as Stub

LOAD_SECONDS = 600.0
GENERATE_SECONDS = 600.0

# Text is one user turn; a list of (role, content) pairs is a conversation.
Prompt: TypeAlias = str | Sequence[tuple[str, str]]


class TopLogprob(Record, of=pb.TopLogprob):
    """A token that could have come, with the natural logarithm of its probability."""

    token_id: int
    token: str
    logprob: float


class TokenLogprob(Record, of=pb.TokenLogprob):
    """A token with the natural logarithm of its probability, and the likeliest tokens in its place."""

    token_id: int
    token: str
    logprob: float
    top: tuple[TopLogprob, ...]
    processed_logprob: float | None


class Usage(Record, of=pb.Usage):
    """What a request took."""

    prompt_tokens: int
    completion_tokens: int
    queue_seconds: float
    first_token_seconds: float
    total_seconds: float
    cached_prompt_tokens: int


class GeneratedText(Record, of=pb.GenerateResponse):
    """A whole answer."""

    _shown = ("text", "finish_reason")

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...]
    usage: Usage
    model_digest: str
    adapter_digest: str


class GeneratedPiece(Record, of=pb.GenerateStreamResponse):
    """The next piece of an answer; only the last has a finish reason and the usage."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    finish_reason: FinishReason
    usage: Usage
    model_digest: str
    adapter_digest: str


class TextLogprobs(Record, of=pb.ScoreResponse):
    """A text's tokens with the natural logarithm of their probability, each given those before it.

    ``logprobs`` has one entry fewer than ``token_ids``: none for the first token.
    """

    _shown = ("total", "mean")

    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    usage: Usage
    model_digest: str
    adapter_digest: str

    @property
    def total(self) -> float:
        """Of the text after its first token."""
        return math.fsum(token.logprob for token in self.logprobs)

    @property
    def mean(self) -> float | None:
        """Per token; None for a text of one token. Perplexity is exp(-mean)."""
        count = len(self.logprobs)
        return self.total / count if count else None


class LoadedAdapter(Record, of=pb.LoadedAdapter):
    """An adapter in the inferencer's memory; ``model`` is the handle of its base."""

    handle: str
    reference: str
    digest: str
    model: str
    rank: int
    memory_bytes: int
    load_seconds: float


class LoadedModel(Record, of=pb.LoadedModel):
    """A model in the inferencer's memory; an empty ``weight_format`` is float32."""

    _shown = ("handle", "reference", "weight_format")

    handle: str
    reference: str
    digest: str
    family: str
    parameter_count: int
    context_length: int
    memory_bytes: int
    load_seconds: float
    slots: int
    weight_format: str
    adapters: tuple[LoadedAdapter, ...]
    warnings: tuple[str, ...]


class Inference(Group[Mode]):
    """``client.inference``; `generate`, `generate_stream` and `logprobs` are on the client itself."""

    @one
    @staticmethod
    def load(reference: str, *, expected_digest: str = "", weight_format: str = "") -> Flow[LoadedModel]:
        """Load a model and return when it can generate; no work if it is loaded.

        ``reference`` is file://, hf://, …, or a version of the registry: its id, ``name@alias`` or ``name/version``.
        ``weight_format`` "int8-v1" is faster and smaller, and gives slightly other answers; "" is float32.
        """
        return Flow(lambda: _loaded(reference, expected_digest, weight_format))

    @one
    @staticmethod
    def generate(
        handle: str,
        prompt: Prompt,
        *,
        config: GenerationConfig | common_pb2.GenerationConfig | Mapping[str, Any] | None = None,
    ) -> Call[GeneratedText]:
        """The whole answer of the loaded model with this handle; `NotFound` once the inferencer has unloaded it."""
        request = _request(prompt, config, False, 0)
        request.model = handle
        return unary(
            Stub,
            lambda stub: stub.Generate,
            request,
            GeneratedText,
            peer="inferencer",
            deadline_seconds=GENERATE_SECONDS,
        )

    @one
    @staticmethod
    def unload(handle: str) -> Call[None]:
        """Free a loaded model's memory."""
        request = pb.UnloadModelRequest(handle=handle)
        return unary(Stub, lambda stub: stub.UnloadModel, request, no_result, peer="inferencer")

    @one
    @staticmethod
    def load_adapter(handle: str, reference: str, *, expected_digest: str = "") -> Flow[LoadedAdapter]:
        """Load an adapter, named as models are, onto the loaded model with this handle; no work if it is loaded."""
        return Flow(lambda: _adapter(handle, reference, expected_digest))

    @one
    @staticmethod
    def unload_adapter(handle: str) -> Call[None]:
        """Free a loaded adapter's slot."""
        request = pb.UnloadAdapterRequest(handle=handle)
        return unary(Stub, lambda stub: stub.UnloadAdapter, request, no_result, peer="inferencer")

    @one
    @staticmethod
    def loaded() -> Call[tuple[LoadedModel, ...]]:
        """The models in the inferencer's memory, the one used last first."""
        request = pb.ListLoadedModelsRequest()
        return unary(
            Stub,
            lambda stub: stub.ListLoadedModels,
            request,
            lambda answer, _: LoadedModel.each(answer.models),
            peer="inferencer",
        )


class Generation(Group[Mode]):
    """What the client itself offers for generation."""

    @one
    @staticmethod
    def generate(
        model: str,
        prompt: Prompt,
        *,
        config: GenerationConfig | common_pb2.GenerationConfig | Mapping[str, Any] | None = None,
        return_logprobs: bool = False,
        top_logprobs: int = 0,
        adapter: str = "",
    ) -> Flow[GeneratedText]:
        """The model's whole answer. ``model`` is a version id, ``name@alias``, ``name/version`` or a reference.

        ``adapter``, named in the same ways, is loaded onto the model and answers with it; the model must be its base.
        """
        request = _request(prompt, config, return_logprobs, top_logprobs)

        def steps() -> Steps[GeneratedText]:
            request.model, request.adapter = yield from _handles(model, adapter, request.config.weight_format)
            answer: GeneratedText = yield unary(
                Stub,
                lambda stub: stub.Generate,
                request,
                GeneratedText,
                peer="inferencer",
                deadline_seconds=GENERATE_SECONDS,
            )
            return answer

        return Flow(steps)

    @many
    @staticmethod
    def generate_stream(
        model: str,
        prompt: Prompt,
        *,
        config: GenerationConfig | common_pb2.GenerationConfig | Mapping[str, Any] | None = None,
        return_logprobs: bool = False,
        top_logprobs: int = 0,
        adapter: str = "",
    ) -> Prepared[GeneratedPiece]:
        """The answer piece by piece, as it is generated; the last piece carries the finish reason and the usage."""
        request = _request(prompt, config, return_logprobs, top_logprobs)

        def steps() -> Steps[Stream[GeneratedPiece]]:
            request.model, request.adapter = yield from _handles(model, adapter, request.config.weight_format)
            return streamed(Stub, lambda stub: stub.GenerateStream, request, GeneratedPiece, peer="inferencer")

        return Prepared(steps)

    @one
    @staticmethod
    def logprobs(
        model: str, text: str | Sequence[int], *, top_logprobs: int = 0, weight_format: str = "", adapter: str = ""
    ) -> Flow[TextLogprobs]:
        """Log-probabilities by ``model`` (as in `generate`) of a text's tokens, or of token ids; with the
        ``top_logprobs`` (0..20) likeliest tokens at each position.

        A text is tokenized as it is: without a chat template and without a token that begins it. ``weight_format`` as
        in `Inference.load`, ``adapter`` as in `generate`.
        """
        given = {"text": text} if isinstance(text, str) else {"tokens": {"token_ids": text}}
        request = to_message(pb.ScoreRequest, {**given, "top_logprobs": top_logprobs})

        def steps() -> Steps[TextLogprobs]:
            request.model, request.adapter = yield from _handles(model, adapter, weight_format)
            answer: TextLogprobs = yield unary(
                Stub,
                lambda stub: stub.Score,
                request,
                TextLogprobs,
                peer="inferencer",
                deadline_seconds=GENERATE_SECONDS,
            )
            return answer

        return Flow(steps)


def _request(
    prompt: Prompt,
    config: GenerationConfig | common_pb2.GenerationConfig | Mapping[str, Any] | None,
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


def _loaded(model: str, digest: str = "", weight_format: str = "") -> Steps[LoadedModel]:
    """The inferencer's model."""
    reference, digest = yield from _reference(model, digest)
    request = pb.LoadModelRequest(reference=reference, expected_digest=digest, weight_format=weight_format)
    loaded: LoadedModel = yield unary(
        Stub, lambda stub: stub.LoadModel, request, LoadedModel, peer="inferencer", deadline_seconds=LOAD_SECONDS
    )
    return loaded


def _adapter(handle: str, adapter: str, digest: str = "") -> Steps[LoadedAdapter]:
    """The inferencer's adapter on a loaded model."""
    reference, digest = yield from _reference(adapter, digest)
    request = pb.LoadAdapterRequest(model=handle, reference=reference, expected_digest=digest)
    added: LoadedAdapter = yield unary(
        Stub, lambda stub: stub.LoadAdapter, request, LoadedAdapter, peer="inferencer", deadline_seconds=LOAD_SECONDS
    )
    return added


def _reference(name: str, digest: str) -> Steps[tuple[str, str]]:
    """Reference and digest; references are loaded as they are, all else is asked of the registry."""
    if "://" in name and not name.startswith("model://"):
        return name, digest
    version: ModelVersion[Any] = yield Models.get(name.removeprefix("model://"))
    return version.reference, digest or version.artifact.digest
