"""The inferencer over gRPC, as `work.Inferencer`."""

from __future__ import annotations

import grpc

from tunix_rt.evaluator.work import Generated, LoadedModel
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.rpc.projects import PROJECT_HEADER
from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc

_FINISH = {common_pb2.FINISH_REASON_STOP: "stop", common_pb2.FINISH_REASON_LENGTH: "length"}


class GrpcInferencer:
    """Translates calls and errors. Timeouts in seconds; loading includes compiling. Calls work in ``project``."""

    def __init__(
        self, channel: grpc.aio.Channel, *, load_timeout: float, generate_timeout: float, project: str = ""
    ) -> None:
        self._channel = channel
        self._project = ((PROJECT_HEADER, project),) if project else ()
        self._stub: inference_pb2_grpc.InferenceServiceAsyncStub = inference_pb2_grpc.InferenceServiceStub(channel)
        self._load_timeout = load_timeout
        self._generate_timeout = generate_timeout

    def of_project(self, project: str) -> GrpcInferencer:
        """As this one, for a job of ``project``."""
        return GrpcInferencer(
            self._channel,
            load_timeout=self._load_timeout,
            generate_timeout=self._generate_timeout,
            project=project,
        )

    async def load(self, reference: str, digest: str, generation: common_pb2.GenerationConfig) -> LoadedModel:
        request = inference_pb2.LoadModelRequest(
            reference=reference, expected_digest=digest, weight_format=generation.weight_format
        )
        try:
            loaded = await self._stub.LoadModel(request, timeout=self._load_timeout, metadata=self._project)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return LoadedModel(loaded.handle, loaded.digest)

    async def generate(self, handle: str, prompt: str, generation: common_pb2.GenerationConfig, seed: int) -> Generated:
        """Generate after one user turn. The inferencer puts ``generation``'s system prompt in front."""
        config = common_pb2.GenerationConfig()
        config.CopyFrom(generation)
        config.seed = seed
        request = inference_pb2.GenerateRequest(
            model=handle,
            chat=inference_pb2.ChatInput(messages=[inference_pb2.ChatMessage(role="user", content=prompt)]),
            config=config,
        )
        try:
            answer = await self._stub.Generate(request, timeout=self._generate_timeout, metadata=self._project)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return Generated(
            text=answer.text,
            finish_reason=_FINISH.get(answer.finish_reason, ""),
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
        )
