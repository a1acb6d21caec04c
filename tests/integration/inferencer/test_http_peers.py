"""The HTTP endpoint as others use it: OpenAI's own client and EleutherAI's lm-evaluation-harness, both unchanged."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc

TEXTS = (
    "the sum of two and three is five ; what makes seven",
    "café größe naïve 12 + 345 times eight ?",
    "what <answer> is the sum",
    "two",
)

_HARNESS = """
import json, sys
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
base_url, model, tokenizer, include = sys.argv[1:]
arguments = {"base_url": base_url, "model": model, "tokenizer": tokenizer, "max_length": 256, "num_concurrent": 2}
for batch_size in (1, 4):
    found = simple_evaluate(
        model="local-completions",
        model_args=arguments,
        tasks=["tiny_choice", "tiny_text"],
        task_manager=TaskManager(include_path=include, include_defaults=False),
        batch_size=batch_size,
        log_samples=True,
        bootstrap_iters=0,
    )
    samples = {
        task: [{"arguments": sample["arguments"], "responses": sample["resps"]} for sample in rows]
        for task, rows in found["samples"].items()
    }
    print("RESULT " + json.dumps(samples, default=str))
"""
_TASKS = {
    "tiny_choice": """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["five", "seven times eight", "café ?"]
doc_to_target: 0
metric_list: [{metric: acc}]
""",
    "tiny_text": """
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "five"
generation_kwargs: {until: [";", "?"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match}]
""",
}
_COMMON = """
task: %s
dataset_path: json
dataset_kwargs: {data_files: {test: "%s"}}
test_split: test
"""


@dataclass
class Served:
    """An inferencer process with one model."""

    base_url: str
    handle: str
    stub: Any
    token: str

    @property
    def options(self) -> dict[str, Any]:
        return {"timeout": 60, "metadata": (("authorization", f"Bearer {self.token}"),)}

    def score(self, *ids: int, top: int = 0) -> inference_pb2.ScoreResponse:
        request = inference_pb2.ScoreRequest(
            model=self.handle, tokens=inference_pb2.TokenInput(token_ids=ids), top_logprobs=top
        )
        answer: inference_pb2.ScoreResponse = self.stub.Score(request, **self.options)
        return answer

    def generate(self, text: str, **config: Any) -> inference_pb2.GenerateResponse:
        request = inference_pb2.GenerateRequest(
            model=self.handle, text=text, config=common_pb2.GenerationConfig(**config), return_logprobs=True
        )
        answer: inference_pb2.GenerateResponse = self.stub.Generate(request, **self.options)
        return answer


@pytest.fixture(scope="module")
def served(
    tiny: Any, running_inferencer: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    settings = {"TUNIX_RT_INFERENCER_CONTEXT": "256", "TUNIX_RT_INFERENCER_CHUNK": "32"}
    with running_inferencer(tmp_path_factory.mktemp("http-home"), **settings) as service:
        stub = inference_pb2_grpc.InferenceServiceStub(service.channel)
        load = inference_pb2.LoadModelRequest(reference=tiny.reference)
        model = stub.LoadModel(load, timeout=240, metadata=service.metadata)
        yield Served(f"http://127.0.0.1:{service.http_port}/v1", model.handle, stub, service.token)


@pytest.fixture
def client(served: Served, require: Callable[[str], None]) -> Any:
    require("openai")
    import openai

    return openai.OpenAI(base_url=served.base_url, api_key=served.token, max_retries=0, timeout=60)


def test_models_are_listed(client: Any, served: Served, tiny: Any) -> None:
    assert [model.id for model in client.models.list()] == [served.handle]
    assert client.models.retrieve(tiny.reference).id == served.handle


def test_a_chat_is_the_answer_of_grpc_whole_and_streamed(client: Any, served: Served, tiny: Any) -> None:
    import openai

    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": TEXTS[0]}]
    options = {"model": served.handle, "messages": messages, "max_tokens": 20, "temperature": 0}
    expected = served.generate(tiny.tokenizer.render_chat(messages), max_new_tokens=20)
    whole = client.chat.completions.create(**options, logprobs=True, top_logprobs=2)
    assert whole.choices[0].message.content == expected.text
    assert [entry.logprob for entry in whole.choices[0].logprobs.content] == [t.logprob for t in expected.logprobs]
    for entry in whole.choices[0].logprobs.content:
        assert entry.top_logprobs[0].logprob == entry.logprob
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (
        expected.usage.prompt_tokens,
        len(expected.token_ids),
    )
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == expected.text
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert isinstance(whole, openai.types.chat.ChatCompletion)


def test_a_completion_is_the_answer_of_grpc_whole_and_streamed(client: Any, served: Served) -> None:
    options = {"model": served.handle, "prompt": TEXTS[1], "max_tokens": 20, "temperature": 0.9, "seed": 11}
    expected = served.generate(TEXTS[1], max_new_tokens=20, temperature=0.9, seed=11)
    whole = client.completions.create(**options, logprobs=1).choices[0]
    assert whole.text == expected.text
    assert whole.logprobs.token_logprobs == [token.logprob for token in expected.logprobs]
    streamed = [chunk.choices[0] for chunk in client.completions.create(**options, stream=True)]
    assert "".join(choice.text for choice in streamed) == expected.text
    several = client.completions.create(**options, n=3, extra_body={"top_k": 0, "min_p": 0, "repetition_penalty": 1})
    assert several.choices[0].text == expected.text
    assert len({choice.text for choice in several.choices}) == 3


def test_an_echo_is_the_score_of_grpc_in_a_batch_and_alone(client: Any, served: Served, tiny: Any) -> None:
    prompts = [tiny.tokenizer.encode(text) for text in TEXTS]
    options = {"model": served.handle, "max_tokens": 0, "echo": True, "logprobs": 3}
    together = client.completions.create(prompt=prompts, **options).choices
    for text, ids, choice in zip(TEXTS, prompts, together, strict=True):
        scores = served.score(*ids, top=3)
        found = choice.logprobs
        assert choice.text == text
        assert found.token_logprobs == [None, *(token.logprob for token in scores.logprobs)]
        for top, token in zip(found.top_logprobs[1:], scores.logprobs, strict=True):
            assert max(top.values()) == token.top[0].logprob
        assert text[found.text_offset[-1] :] == found.tokens[-1]
        assert client.completions.create(prompt=text, **options).choices[0].logprobs == found


def test_scores_do_not_depend_on_the_crowd(client: Any, served: Served, tiny: Any) -> None:
    import openai

    prompts = [tiny.tokenizer.encode(" ".join(TEXTS[i % 4 :])) for i in range(24)]
    alone = [
        client.completions.create(model=served.handle, prompt=ids, max_tokens=0, echo=True, logprobs=2).choices[0]
        for ids in prompts[:4]
    ]

    async def crowd() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=served.base_url, api_key=served.token, max_retries=0) as peer:
            options = {"model": served.handle, "max_tokens": 0, "echo": True, "logprobs": 2}
            scores = [peer.completions.create(prompt=ids, **options) for ids in prompts]
            chat = {"model": served.handle, "messages": [{"role": "user", "content": TEXTS[1]}], "max_tokens": 60}
            answers = [peer.chat.completions.create(**chat, seed=i) for i in range(8)]
            return (await asyncio.gather(*answers, *scores))[8:]

    for i, answer in enumerate(asyncio.run(crowd())):
        assert answer.choices[0].logprobs == alone[i % 4].logprobs


def test_streams_that_are_left_free_their_slots(client: Any, served: Served) -> None:
    endless = {"model": served.handle, "prompt": "two", "max_tokens": 200, "n": 24, "logprobs": 5}
    for _ in range(3):
        with client.completions.create(**endless, stream=True) as stream:
            next(iter(stream))
    started = time.monotonic()
    client.completions.create(model=served.handle, prompt="two", max_tokens=1)
    # Were the 72 generations still in line, they would come first.
    assert time.monotonic() - started < 10


def test_refusals_are_the_clients_own_exceptions(client: Any, served: Served) -> None:
    import openai

    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="gpt-4", prompt="x")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model=served.handle,
            messages=[{"role": "user", "content": "x"}],
            tools=[{"type": "function", "function": {"name": "f"}}],
            logit_bias={"1": 5},
        )
    assert refused.value.param == "logit_bias, tools"
    stranger = openai.OpenAI(base_url=served.base_url, api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


@pytest.mark.slow
def test_the_harness_gets_log_likelihoods_and_texts(
    served: Served, tiny: Any, require: Callable[[str], None], tmp_path: Path
) -> None:
    require("lm_eval")
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps({"question": text}) + "\n" for text in TEXTS))
    for name, task in _TASKS.items():
        (tmp_path / f"{name}.yaml").write_text(_COMMON % (name, data) + task)
    arguments = [f"{served.base_url}/completions", served.handle, str(tiny.directory), str(tmp_path)]
    environment = {
        **os.environ,
        "OPENAI_API_KEY": served.token,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    child = subprocess.run(
        [sys.executable, "-c", _HARNESS, *arguments], env=environment, capture_output=True, text=True, timeout=240
    )
    assert child.returncode == 0, child.stderr[-4000:]
    samples, in_batches = (
        json.loads(line.removeprefix("RESULT ")) for line in child.stdout.splitlines() if line.startswith("RESULT ")
    )
    assert samples == in_batches
    assert [len(rows) for rows in samples.values()] == [4, 4]
    for row in samples["tiny_choice"]:
        for (context, continuation), ((likelihood, is_greedy),) in zip(row["arguments"], row["responses"], strict=True):
            before, ids = (tiny.tokenizer.encode(text) for text in (context, context + continuation))
            scores = served.score(*ids, top=1).logprobs[len(before) - 1 :]
            assert likelihood == pytest.approx(math.fsum(token.logprob for token in scores), abs=1e-9)
            assert is_greedy is all(token.token_id == token.top[0].token_id for token in scores)
    for row in samples["tiny_text"]:
        expected = served.generate(row["arguments"][0][0], max_new_tokens=12, stop=[";", "?"])
        assert row["responses"] == [[expected.text]]
