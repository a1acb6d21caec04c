"""Edges of texts and lengths at both edges of the service, with the real engine.

The model recites: whatever came before, each token is followed by the one that follows it in `TEXT`, whose tokens are
all different. So the test writes the answer, and one decode step a dispatch makes every token a delta of its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import numpy as np
import pytest
from flax import nnx

from tunix_rt.errors import InvalidInput
from tunix_rt.inferencer.engine.jax_engine import EngineShape
from tunix_rt.models.decoder import Decoder
from tunix_rt.models.export import export_parameters
from tunix_rt.models.parameters import parameters_of
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc

# Characters of two, three and four bytes, each byte a token, and words of one token.
pytestmark = pytest.mark.slow

TEXT = "sum 🙂 of日twoжthree eightक is\n"
CAPACITY = 64
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def recite(tiny: Any, directory: Path) -> list[int]:
    """Export a model that says `TEXT` and then ends its turn; the ids of `TEXT` and of the end."""
    tokenizer = tiny.tokenizer
    ids = [*tokenizer.encode(TEXT), tokenizer.eos_token_ids[0]]
    assert len(set(ids)) == len(ids) > 20
    config = dataclasses.replace(tiny.config, num_hidden_layers=1, tie_word_embeddings=False)
    parameters = {
        # Layers that add nothing: what comes out is the embedding of the last token.
        name: np.zeros_like(value) if "blocks" in name else np.array(value)
        for name, value in parameters_of(Decoder(config, rngs=nnx.Rngs(0))).items()
    }
    chance = np.random.default_rng(0)
    parameters["embedding"] = chance.normal(size=parameters["embedding"].shape).astype(np.float32)
    head = chance.normal(size=parameters["head"].shape).astype(np.float32)
    head[ids[1:]] = parameters["embedding"][ids[:-1]] * 2
    parameters["head"] = head
    export_parameters(parameters, config, tokenizer, directory)
    return ids


@dataclass(frozen=True)
class Reciter:
    """A service with such a model, asked over gRPC and HTTP, whole and streamed."""

    ids: list[int]
    model: str
    stub: Any
    session: aiohttp.ClientSession
    metadata: Any

    async def grpc(self, prompt: list[int], **config: Any) -> inference_pb2.GenerateResponse:
        answer: inference_pb2.GenerateResponse = await self.stub.Generate(
            self._request(prompt, config), timeout=60, metadata=self.metadata
        )
        return answer

    async def grpc_pieces(self, prompt: list[int], **config: Any) -> list[str]:
        stream = self.stub.GenerateStream(self._request(prompt, config), timeout=60, metadata=self.metadata)
        return [piece.text async for piece in stream]

    async def http(self, prompt: list[int], **body: Any) -> tuple[int, dict[str, Any]]:
        async with self.session.post("/v1/completions", json=self._body(prompt, body)) as response:
            return response.status, await response.json()

    async def http_pieces(self, prompt: list[int], **body: Any) -> list[str]:
        async with self.session.post("/v1/completions", json=self._body(prompt, body) | {"stream": True}) as response:
            events = [line.removeprefix("data: ") for line in (await response.text()).split("\n\n")]
        assert events[-2:] == ["[DONE]", ""]
        return [json.loads(event)["choices"][0]["text"] for event in events[:-2]]

    async def answers(self, prompt: list[int], *, tokens: int, stop: tuple[str, ...] = ()) -> tuple[str, str]:
        """The text, the same in all four ways, and how it ended; no piece of a stream shows half a character but
        the last."""
        whole = await self.grpc(prompt, max_new_tokens=tokens, stop=stop)
        status, answer = await self.http(prompt, max_tokens=tokens, stop=list(stop))
        pieces = await self.grpc_pieces(prompt, max_new_tokens=tokens, stop=stop)
        events = await self.http_pieces(prompt, max_tokens=tokens, stop=list(stop))
        choice = answer["choices"][0]
        assert status == 200
        assert whole.text == "".join(pieces) == choice["text"] == "".join(events)
        assert len([piece for piece in pieces if piece]) > 1
        assert not any(REPLACEMENT in piece for piece in (*pieces[:-1], *events[:-1]))
        return whole.text, choice["finish_reason"]

    def _request(self, prompt: list[int], config: dict[str, Any]) -> inference_pb2.GenerateRequest:
        tokens = inference_pb2.TokenInput(token_ids=prompt)
        return inference_pb2.GenerateRequest(
            model=self.model, tokens=tokens, config=common_pb2.GenerationConfig(**config)
        )

    def _body(self, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        return {"model": self.model, "prompt": prompt, "temperature": 0, **body}


@pytest.fixture(scope="module")
def recital(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    directory = tmp_path_factory.mktemp("recital") / "model"
    return directory, recite(tiny, directory)


@pytest.fixture
def reciting(recital: tuple[Path, list[int]], serving_here: Callable[..., Any], tmp_path: Path) -> Callable[[], Any]:
    @asynccontextmanager
    async def started() -> AsyncIterator[Reciter]:
        directory, ids = recital
        async with serving_here(directory, tmp_path, EngineShape(4, CAPACITY, 16, 1)) as service:
            headers = {"Authorization": f"Bearer {service.token}"}
            async with (
                grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel,
                aiohttp.ClientSession(f"http://127.0.0.1:{service.http_port}", headers=headers) as session,
            ):
                stub = inference_pb2_grpc.InferenceServiceStub(channel)
                metadata = (("authorization", headers["Authorization"]),)
                yield Reciter(ids, service.model.handle, stub, session, metadata)

    return started


async def test_characters_and_stop_strings_across_tokens(reciting: Callable[[], Any], tiny: Any) -> None:
    async with reciting() as reciter:
        first, rest = reciter.ids[:1], TEXT.removeprefix("sum")
        assert await reciter.answers(first, tokens=60) == (rest, "stop")
        # A stop string that begins inside one token and ends inside another, with a split character between them.
        assert await reciter.answers(first, tokens=60, stop=("f日t",)) == (" 🙂 o", "stop")
        # What looked like a stop string and was none is shown.
        assert await reciter.answers(first, tokens=60, stop=("f日x", "ж?", "is\n\n")) == (rest, "stop")
        # Cut in the middle of 日: two of its three bytes.
        head = tiny.tokenizer.encode(TEXT[: TEXT.index("日")])
        cut = await reciter.answers(first, tokens=len(head) - 1 + 2)
        assert cut == (" 🙂 of" + REPLACEMENT, "length")


async def test_prompts_that_are_empty_maximal_and_too_long(reciting: Callable[[], Any]) -> None:
    async with reciting() as reciter:
        prompt = (reciter.ids[:-1] * 9)[:CAPACITY]
        follower = dict(zip(reciter.ids, reciter.ids[1:], strict=False))
        longest = prompt[: CAPACITY - 1]
        answer = await reciter.grpc(longest, max_new_tokens=30)
        assert list(answer.token_ids) == [follower[longest[-1]]]
        assert answer.finish_reason == common_pb2.FINISH_REASON_LENGTH
        status, document = await reciter.http(longest, max_tokens=30)
        assert (status, document["choices"][0]["finish_reason"]) == (200, "length")
        usage = document["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (CAPACITY - 1, 1)

        for refused in ([], prompt):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await reciter.grpc(refused)
            found = from_rpc_error(error.value)
            assert isinstance(found, InvalidInput)
            assert [violation.field for violation in found.violations] == ["tokens.token_ids"]
            status, document = await reciter.http(refused)
            assert (status, document["error"]["param"]) == (400, "prompt")

        # A score needs no room for an answer.
        echo = {"echo": True, "max_tokens": 0, "logprobs": 0}
        for length, accepted in ((CAPACITY, True), (CAPACITY + 1, False)):
            whole = (prompt * 2)[:length]
            request = inference_pb2.ScoreRequest(model=reciter.model, tokens=inference_pb2.TokenInput(token_ids=whole))
            call = reciter.stub.Score(request, timeout=60, metadata=reciter.metadata)
            status, document = await reciter.http(whole, **echo)
            if accepted:
                scores = [token.logprob for token in (await call).logprobs]
                assert len(scores) == CAPACITY - 1
                assert (status, document["choices"][0]["logprobs"]["token_logprobs"]) == (200, [None, *scores])
            else:
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await call
                assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert (status, document["error"]["param"]) == (400, "prompt")
