"""The digest of a model that is known by reference only, from the inferencer that loaded it.

An evaluator reports the digest, too; its word alone does not make a score verified.
"""

from __future__ import annotations

from typing import Final, Protocol

import grpc

from tunix_rt.errors import InvalidArtifact, InvalidInput, NotFound
from tunix_rt.rpc.errors import answered
from tunix_rt.rpc.projects import PROJECT_HEADER
from tunix_rt.v1 import inference_pb2, inference_pb2_grpc

_LIST_SECONDS: Final = 10.0
# Loading takes as long as it takes; a caller that gave up waiting asks again, and then it is loaded.
_LOAD_SECONDS: Final = 25.0


class LoadedDigests(Protocol):
    """Where the digests of loaded models are known."""

    async def digest_of(self, reference: str, project: str) -> str:
        """The digest of what ``reference`` holds, loaded for ``project``; "" if it cannot be loaded. Raises `Transient`
        for an inferencer that does not answer."""
        ...


class InferencerDigests:
    """Asks an inferencer; a model that it has dropped from its memory is loaded again."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(channel)

    async def digest_of(self, reference: str, project: str) -> str:
        """As `LoadedDigests`."""
        request = inference_pb2.ListLoadedModelsRequest()
        asked_for = ((PROJECT_HEADER, project),)
        loaded = await answered(self._stub.ListLoadedModels(request, timeout=_LIST_SECONDS, metadata=asked_for))
        # The same content in several weight formats is several models with one digest.
        for model in loaded.models:
            if model.reference == reference:
                return str(model.digest)
        wanted = inference_pb2.LoadModelRequest(reference=reference)
        try:
            return str((await answered(self._stub.LoadModel(wanted, timeout=_LOAD_SECONDS, metadata=asked_for))).digest)
        except (InvalidArtifact, InvalidInput, NotFound):
            return ""
