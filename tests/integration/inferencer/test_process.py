"""The service as a process: loads an export, answers, and ends on SIGTERM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc


def test_a_process_loads_a_model_answers_and_drains(
    tiny: Any, running_inferencer: Callable[..., Any], tmp_path: Path
) -> None:
    text = "the sum of two and three is what the sum of five and seven is ; the sum of seven and five is"
    sizes = {"TUNIX_RT_INFERENCER_CONTEXT": "128", "TUNIX_RT_INFERENCER_CHUNK": "8"}
    with running_inferencer(tmp_path, **sizes) as service:
        stub = inference_pb2_grpc.InferenceServiceStub(service.channel)
        options: dict[str, Any] = {"timeout": 200, "metadata": service.metadata}
        load = inference_pb2.LoadModelRequest(reference=tiny.reference)
        model = stub.LoadModel(load, **options)
        assert stub.LoadModel(load, **options) == model
        assert (model.context_length, model.slots) == (128, 8)
        assert model.parameter_count == tiny.config.parameter_count
        prompt = tiny.tokenizer.encode(text)
        request = inference_pb2.GenerateRequest(
            model=model.handle,
            text=text,
            config=common_pb2.GenerationConfig(max_new_tokens=6),
            return_logprobs=True,
            return_processed_logprobs=True,
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
    assert answer.usage.cached_prompt_tokens == 0
    # The same prompt again: every whole chunk before its last token was there.
    assert pieces[-1].usage.cached_prompt_tokens == (len(prompt) - 1) // 8 * 8 > 8
    # Greedy and without a penalty, what was chosen from is the model's own distribution.
    for token in answer.logprobs:
        assert token.processed_logprob == pytest.approx(token.logprob, abs=1e-5)
    assert "".join(piece.text for piece in pieces) == answer.text
    assert [token for piece in pieces for token in piece.token_ids] == expected
