"""The service as a process: loads an export, answers, and ends on SIGTERM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc


def test_a_process_loads_a_model_answers_and_drains(
    tiny: Any, running_inferencer: Callable[..., Any], tmp_path: Path
) -> None:
    with running_inferencer(tmp_path, TUNIX_RT_INFERENCER_CONTEXT="128") as service:
        stub = inference_pb2_grpc.InferenceServiceStub(service.channel)
        options: dict[str, Any] = {"timeout": 200, "metadata": service.metadata}
        load = inference_pb2.LoadModelRequest(reference=tiny.reference)
        model = stub.LoadModel(load, **options)
        assert stub.LoadModel(load, **options) == model
        assert (model.context_length, model.slots) == (128, 8)
        assert model.parameter_count == tiny.config.parameter_count
        prompt = tiny.tokenizer.encode("the sum of two and three is")
        request = inference_pb2.GenerateRequest(
            model=model.handle,
            text="the sum of two and three is",
            config=common_pb2.GenerationConfig(max_new_tokens=6),
            return_logprobs=True,
        )
        answer = stub.Generate(request, **options)
        pieces = list(stub.GenerateStream(request, **options))
        missing = inference_pb2.LoadModelRequest(reference=f"{tiny.reference}-not-there")
        try:
            stub.LoadModel(missing, **options)
            raise AssertionError("a missing directory was loaded")
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
    expected = tiny.greedy(prompt, len(answer.token_ids))
    assert list(answer.token_ids) == expected
    assert answer.usage.prompt_tokens == len(prompt)
    assert "".join(piece.text for piece in pieces) == answer.text
    assert [token for piece in pieces for token in piece.token_ids] == expected
