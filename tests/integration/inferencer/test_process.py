"""The service as a process: loads an export, answers, and ends on SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc

from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_a_process_loads_a_model_answers_and_drains(tiny: Any, tmp_path: Path) -> None:
    port = free_port()
    environment = {
        **os.environ,
        "TUNIX_RT_HOME": str(tmp_path),
        "TUNIX_RT_LISTEN": f"127.0.0.1:{port}",
        "TUNIX_RT_TOKEN": "a-token-for-this-test",
        "TUNIX_RT_INFERENCER_CONTEXT": "128",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tunix_rt.inferencer"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=120)
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            options: dict[str, Any] = {"timeout": 200, "metadata": (("authorization", "Bearer a-token-for-this-test"),)}
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
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
    finally:
        process.kill()
        process.wait()
    expected = tiny.greedy(prompt, len(answer.token_ids))
    assert list(answer.token_ids) == expected
    assert answer.usage.prompt_tokens == len(prompt)
    assert "".join(piece.text for piece in pieces) == answer.text
    assert [token for piece in pieces for token in piece.token_ids] == expected
