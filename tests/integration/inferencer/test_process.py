"""The service as a process: loads an export, answers gRPC and the command line, and ends on SIGTERM."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner, Result

from tunix_rt.cli.main import app
from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc

TEXT = "the sum of two and three is what the sum of five and seven is ; the sum of seven and five is"


@pytest.fixture(scope="module")
def service(running_inferencer: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    # Ending it is a part of the test: on SIGTERM, with status 0.
    sizes = {"TUNIX_RT_INFERENCER_CONTEXT": "128", "TUNIX_RT_INFERENCER_CHUNK": "8"}
    with running_inferencer(tmp_path_factory.mktemp("home"), **sizes) as running:
        yield running


def test_a_process_loads_a_model_and_answers(tiny: Any, service: Any) -> None:
    stub = inference_pb2_grpc.InferenceServiceStub(service.channel)
    options: dict[str, Any] = {"timeout": 200, "metadata": service.metadata}
    load = inference_pb2.LoadModelRequest(reference=tiny.reference)
    model = stub.LoadModel(load, **options)
    assert stub.LoadModel(load, **options) == model
    assert (model.context_length, model.slots) == (128, 8)
    assert model.parameter_count == tiny.config.parameter_count
    prompt = tiny.tokenizer.encode(TEXT)
    request = inference_pb2.GenerateRequest(
        model=model.handle,
        text=TEXT,
        config=common_pb2.GenerationConfig(max_new_tokens=6),
        return_logprobs=True,
        return_processed_logprobs=True,
    )
    answer = stub.Generate(request, **options)
    pieces = list(stub.GenerateStream(request, **options))
    missing = inference_pb2.LoadModelRequest(reference=f"{tiny.reference}-not-there")
    with pytest.raises(grpc.RpcError) as error:
        stub.LoadModel(missing, **options)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
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


def test_the_command_line_loads_scores_and_unloads(
    tiny: Any, service: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("TUNIX_RT_TOKEN", service.token)

    def run(*arguments: str, exit_code: int = 0) -> Result:
        platform = ["--home", str(tmp_path), "--address", "127.0.0.1:9", "--inferencer", f"127.0.0.1:{service.port}"]
        result = CliRunner().invoke(app, [*platform, *arguments])
        assert result.exit_code == exit_code, result.output
        return result

    model = json.loads(run("models", "load", tiny.reference, "--json").stdout)
    assert json.loads(run("models", "loaded", "--json").stdout) == model
    assert model["handle"] in run("models", "loaded").stdout

    score = json.loads(run("logprobs", tiny.reference, TEXT, "--top", "2", "--json").stdout)
    ids = tiny.tokenizer.encode(TEXT)
    values = [token["logprob"] for token in score["logprobs"]]
    assert score["token_ids"] == ids
    assert [token["token_id"] for token in score["logprobs"]] == ids[1:]
    assert [len(token["top"]) for token in score["logprobs"]] == [2] * len(values)
    assert score["total_logprob"] == math.fsum(values) < 0
    assert score["mean_logprob"] == math.fsum(values) / len(values)
    table = run("logprobs", tiny.reference, TEXT, "--top", "2").stdout
    assert f"{math.fsum(values):.4f}" in table
    assert all(f"{value:.4f}" in table for value in values)

    assert "text: " in run("logprobs", tiny.reference, "", exit_code=1).stderr
    assert "is not loaded" in run("models", "unload", "file:///not/there", exit_code=1).stderr
    assert json.loads(run("models", "unload", tiny.reference, "--json").stdout) == {"unloaded": model["handle"]}
    assert run("models", "loaded", "--json").stdout == ""
