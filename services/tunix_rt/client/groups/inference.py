"""Text generation: finds the model, has it loaded, generates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class Inference(Group[Mode]):
    """``client.inference``; `generate` and `generate_stream` are on the client itself, too."""

    @one
    @staticmethod
    def load(reference: str, *, expected_digest: str = "") -> Call[pb.LoadedModel]:
        """Load a model by reference (file://, hf://, …) and return when it can generate; no work if it is loaded."""
        request = pb.LoadModelRequest(reference=reference, expected_digest=expected_digest)
        return unary(Stub, lambda stub: stub.LoadModel, request, peer="inferencer", deadline_seconds=LOAD_SECONDS)

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
            request.model = yield from _handle(model)
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
            request.model = yield from _handle(model)
            return streamed(Stub, lambda stub: stub.GenerateStream, request, lambda piece: piece, peer="inferencer")

        return Prepared(steps)


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


def _handle(model: str) -> Steps[str]:
    """The inferencer's handle of a model; references are loaded as they are, all else is asked of the registry."""
    reference, digest = model, ""
    if model.startswith("model://") or "://" not in model:
        version: models_pb2.ModelVersion = yield Models.get(model.removeprefix("model://"))
        reference, digest = version.reference, version.artifact.digest
    loaded: pb.LoadedModel = yield Inference.load(reference, expected_digest=digest)
    return loaded.handle
