"""The HTTP endpoint over a real socket, with models that can be computed by hand."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from tests.fixtures.fake_engine import FakeEngine

from tunix_rt.inferencer.app import serve
from tunix_rt.inferencer.http.options import seed_of_choice
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.v1 import inference_pb2, inference_pb2_grpc

TOKEN = "a-token-for-this-test-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Client:
    """HTTP with the token, and the handles of the models and of the adapters that were loaded by gRPC."""

    def __init__(self, session: aiohttp.ClientSession, handles: list[str], adapters: list[str]) -> None:
        self.session = session
        self.handles = handles
        self.adapters = adapters

    async def post(self, path: str, body: Any, **options: Any) -> tuple[int, dict[str, Any], Any]:
        whole = {"model": self.handles[0], **body} if isinstance(body, dict) else body
        async with self.session.post(path, json=whole, **options) as response:
            return response.status, await response.json(), response.headers

    async def events(self, path: str, body: Any) -> list[Any]:
        async with self.session.post(path, json={"model": self.handles[0], "stream": True, **body}) as response:
            assert response.status == 200, await response.text()
            assert response.headers["Content-Type"].startswith("text/event-stream")
            lines = (await response.text()).split("\n\n")
        assert lines[-1] == ""
        found = [line.removeprefix("data: ") for line in lines[:-1]]
        return [line if line == "[DONE]" else json.loads(line) for line in found]


@asynccontextmanager
async def service(
    loader: Any,
    home: Path,
    references: tuple[str, ...] = ("test://a",),
    weight_formats: tuple[str, ...] = ("",),
    adapters: tuple[str, ...] = (),
    **options: Any,
) -> AsyncIterator[Client]:
    settings = InferencerSettings(
        home=home, listen="127.0.0.1:0", http_listen="127.0.0.1:0", token=TOKEN, grace_seconds=1.0, **options
    )
    loop = asyncio.get_running_loop()
    stop, port, http_port = asyncio.Event(), loop.create_future(), loop.create_future()
    serving = asyncio.create_task(
        serve(settings, loader, stop=stop, on_bound=port.set_result, on_http_bound=http_port.set_result)
    )
    try:
        base = f"http://127.0.0.1:{await http_port}"
        async with (
            aiohttp.ClientSession(base, headers=BEARER, timeout=aiohttp.ClientTimeout(20)) as session,
            grpc.aio.insecure_channel(f"127.0.0.1:{await port}") as channel,
        ):
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            handles = []
            for reference, weight_format in product(references, weight_formats):
                request = inference_pb2.LoadModelRequest(reference=reference, weight_format=weight_format)
                metadata = (("authorization", f"Bearer {TOKEN}"),)
                handles.append((await stub.LoadModel(request, timeout=20, metadata=metadata)).handle)
            added = []
            for reference in adapters:
                load = inference_pb2.LoadAdapterRequest(model=handles[0], reference=reference)
                metadata = (("authorization", f"Bearer {TOKEN}"),)
                added.append((await stub.LoadAdapter(load, timeout=20, metadata=metadata)).handle)
            yield Client(session, handles, added)
    finally:
        stop.set()
        await serving


def choice_of(index: int, text: str, logprobs: Any = None, finish: str | None = "length") -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}


def usage_of(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return counts | {"prompt_tokens_details": {"cached_tokens": cached}}


async def test_a_completion_is_what_was_computed_by_hand(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as client:
        body = {"prompt": [10, 20, 30], "max_tokens": 3, "temperature": 0, "logprobs": 2}
        status, answer, _ = await client.post("/v1/completions", body)
    assert status == 200
    assert answer["object"] == "text_completion"
    assert answer["model"] == client.handles[0]
    assert answer["usage"] == usage_of(3, 3)
    # sum 60, positions 3..5: tokens 63, 64, 65; runners-up one and two less.
    logprobs = {
        "tokens": ["_", "`", "a"],
        "token_logprobs": [0.0, 0.0, 0.0],
        "top_logprobs": [{"_": 0.0, "`": -1.0}, {"`": 0.0, "a": -1.0}, {"a": 0.0, "b": -1.0}],
        "text_offset": [0, 1, 2],
    }
    assert answer["choices"] == [choice_of(0, "_`a", logprobs)]


async def test_echo_without_tokens_scores_the_prompts(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as client:
        body = {"prompt": [[1, 3, 2], [40]], "max_tokens": 0, "echo": True, "logprobs": 1}
        _, answer, _ = await client.post("/v1/completions", body)
    # 1 -> 3 is two up: -2; 3 -> 2 is 96 up modulo 97. The likeliest follower is the token itself.
    first = {
        "tokens": ["!", "#", '"'],
        "token_logprobs": [None, -2.0, -96.0],
        "top_logprobs": [None, {"!": 0.0, "#": -2.0}, {"#": 0.0, '"': -96.0}],
        "text_offset": [0, 1, 2],
    }
    second = {"tokens": ["H"], "token_logprobs": [None], "top_logprobs": [None], "text_offset": [0]}
    assert answer["choices"] == [choice_of(0, '!#"', first), choice_of(1, "H", second)]
    assert answer["usage"] == usage_of(4, 0)


async def test_echo_puts_the_prompt_before_the_answer_streamed_or_not(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as client:
        body = {"prompt": "AB", "max_tokens": 5, "temperature": 0, "echo": True, "logprobs": 0}
        _, answer, _ = await client.post("/v1/completions", body)
        events = await client.events("/v1/completions", body)
        _, plain, _ = await client.post("/v1/completions", {**body, "logprobs": None})
    # "AB" is 33, 34: the sum 67 and positions 2..6 make 69..73, "efghi".
    choice = answer["choices"][0]
    assert choice["text"] == "ABefghi"
    assert choice["logprobs"]["tokens"] == list("ABefghi")
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert choice["logprobs"]["text_offset"] == list(range(7))
    pieces = [event["choices"][0] for event in events[:-1]]
    assert "".join(piece["text"] for piece in pieces) == choice["text"]
    for name, values in choice["logprobs"].items():
        assert [value for piece in pieces for value in piece["logprobs"][name]] == values
    assert plain["choices"] == [choice_of(0, "ABefghi")]


async def test_parts_of_a_character_begin_where_it_does(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as client:
        # 94 -> 95, 96 (the two bytes of "é"), 0 (" "), 1 ("!")
        body = {"prompt": [94], "max_tokens": 4, "temperature": 0, "echo": True, "logprobs": 0}
        _, answer, _ = await client.post("/v1/completions", body)
        chat = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "temperature": 0, "logprobs": True}
        _, talk, _ = await client.post("/v1/chat/completions", chat)
    assert answer["choices"][0]["text"] == "~é !"
    assert answer["choices"][0]["logprobs"]["text_offset"] == [0, 1, 1, 2, 3]
    entry = talk["choices"][0]["logprobs"]["content"][0]
    assert entry["bytes"] == list(entry["token"].encode())


async def test_a_chat_may_bring_its_template(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as client:
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "temperature": 0}
        _, answer, _ = await client.post("/v1/chat/completions", {**body, "chat_template": "plain"})
        status, refused, _ = await client.post("/v1/chat/completions", {**body, "chat_template": "alpaca"})
    assert answer["usage"]["prompt_tokens"] == len("plain<user>hi")
    assert status == 400
    assert "chat_template" in refused["error"]["message"]


async def test_a_chat_streams_to_its_whole_answer_with_usage(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as client:
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 6, "temperature": 0}
        _, answer, _ = await client.post("/v1/chat/completions", body)
        with_usage = await client.events("/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})
        without = await client.events("/v1/chat/completions", body)
    prompt = [ord(letter) - 32 for letter in "<user>hi"]
    text = "".join(chr(32 + (sum(prompt) + len(prompt) + i) % 97) for i in range(6))
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": "length",
        }
    ]
    for events in (with_usage[:-1], without):
        chunks = [event for event in events if event != "[DONE]"]
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert len({chunk["id"] for chunk in chunks}) == 1
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
        assert deltas[0]["role"] == "assistant"
        assert all("role" not in delta for delta in deltas[1:])
        assert "".join(delta.get("content", "") for delta in deltas) == text
    assert without[-1] == with_usage[-1] == "[DONE]"
    assert all("usage" not in event for event in without[:-1])
    assert [event["usage"] for event in with_usage[:-2]] == [None] * (len(with_usage) - 2)
    assert with_usage[-2]["choices"] == []
    assert with_usage[-2]["usage"] == usage_of(8, 6)


async def test_choices_and_prompts_of_one_request_have_their_own_seeds_and_places(
    arithmetic_loader: Any, tmp_path: Path
) -> None:
    async with service(arithmetic_loader(), tmp_path) as client:
        body = {"prompt": [[1], [2]], "max_tokens": 1, "seed": 5, "n": 3, "logprobs": 0}
        _, answer, _ = await client.post("/v1/completions", body)
        events = await client.events("/v1/completions", body)
    texts = [choice["text"] for choice in answer["choices"]]
    tokens = [(prompt + 1 + seed_of_choice(5, i)) % 97 for prompt in (1, 2) for i in range(3)]
    letters = [chr(32 + token) if token < 95 else "\N{REPLACEMENT CHARACTER}" for token in tokens]
    assert texts == letters
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    assert answer["usage"] == usage_of(2, 6)
    streamed = {event["choices"][0]["index"]: event["choices"][0]["text"] for event in events[:-1]}
    assert streamed == dict(enumerate(letters))


async def test_a_stop_string_ends_the_text(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as client:
        body = {"prompt": [60], "max_tokens": 50, "temperature": 0, "stop": ["zzz", "^_`"]}
        _, answer, _ = await client.post("/v1/completions", body)
    assert answer["choices"] == [choice_of(0, "]", finish="stop")]


async def test_models_are_listed_and_found_by_handle_and_by_reference(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path, ("test://a", "test://b")) as client:
        async with client.session.get("/v1/models") as response:
            listed = await response.json()
        found = []
        for name in (client.handles[0], "test://a"):
            async with client.session.get(f"/v1/models/{name}") as response:
                found.append((response.status, await response.json()))
        body = {"prompt": [1], "max_tokens": 1, "temperature": 0}
        by_reference, answer, _ = await client.post("/v1/completions", {**body, "model": "test://b"})
        unknown, error, _ = await client.post("/v1/completions", {**body, "model": "test://c"})
    assert listed["object"] == "list"
    assert {(model["id"], model["root"]) for model in listed["data"]} == set(
        zip(client.handles, ("test://a", "test://b"), strict=True)
    )
    assert [(status, model["id"]) for status, model in found] == [(200, client.handles[0])] * 2
    assert (by_reference, answer["model"]) == (200, client.handles[1])
    assert (unknown, error["error"]["code"]) == (404, "model_not_found")


async def test_a_reference_in_two_weight_formats_names_neither(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path, weight_formats=("", "int8-v1")) as client:
        async with client.session.get("/v1/models") as response:
            listed = (await response.json())["data"]
        body = {"prompt": [1], "max_tokens": 1, "temperature": 0}
        ambiguous, error, _ = await client.post("/v1/completions", {**body, "model": "test://a"})
        answers = [(await client.post("/v1/completions", {**body, "model": name}))[1] for name in client.handles]
    formats = {model["id"]: (model["root"], model["weight_format"]) for model in listed}
    assert formats == {client.handles[0]: ("test://a", ""), client.handles[1]: ("test://a", "int8-v1")}
    assert (ambiguous, error["error"]["code"]) == (404, "model_not_found")
    assert [answer["model"] for answer in answers] == client.handles
    plain, int8 = (answer["system_fingerprint"] for answer in answers)
    assert int8 == f"{plain}-int8-v1"


async def test_an_adapter_is_a_model_with_a_parent(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path, adapters=("adapter://x/3/a",)) as client:
        async with client.session.get("/v1/models") as response:
            model, adapter = (await response.json())["data"]
        async with client.session.get("/v1/models/adapter://x/3/a") as response:
            shown = await response.json()
        body = {"prompt": [10, 20, 30], "max_tokens": 3, "temperature": 0}
        answers = [
            (await client.post("/v1/completions", {**body, "model": name}))[1]
            for name in (client.handles[0], client.adapters[0], "adapter://x/3/a")
        ]
        talk = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "temperature": 0}
        _, plain, _ = await client.post("/v1/chat/completions", talk)
        _, tuned, _ = await client.post("/v1/chat/completions", {**talk, "model": client.adapters[0]})
    assert shown == adapter
    assert (model["id"], model["root"], model["parent"]) == (client.handles[0], "test://a", None)
    assert (adapter["id"], adapter["root"]) == (client.adapters[0], "adapter://x/3/a")
    assert (adapter["parent"], adapter["max_model_len"]) == (model["id"], model["max_model_len"])
    # The sum 60, positions 3..5, and the adapter's rank.
    assert [answer["choices"][0]["text"] for answer in answers] == ["_`a", "bcd", "bcd"]
    assert [answer["model"] for answer in answers] == [client.handles[0], *client.adapters * 2]
    fingerprints = [answer["system_fingerprint"] for answer in answers]
    assert fingerprints[1] == fingerprints[2] != fingerprints[0]
    assert fingerprints[1].startswith(fingerprints[0])
    letters = [ord(answer["choices"][0]["message"]["content"]) for answer in (plain, tuned)]
    assert letters[1] == letters[0] + 3


async def test_refusals_have_status_and_error_object(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as client:
        long, vocabulary = [1] * 64, 97
        status, answer, _ = await client.post("/v1/completions", {"prompt": [long, [1], [vocabulary]]})
        assert (status, answer["error"]["param"]) == (400, "prompt[0], prompt[2]")
        status, answer, _ = await client.post("/v1/completions", {"prompt": "x", "best_of": 3, "n": 0})
        assert (status, answer["error"]["param"]) == (400, "n, best_of")
        status, answer, _ = await client.post("/v1/completions", [1])
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
        status, answer, headers = await client.post("/v1/models", {})
        assert (status, headers["Allow"]) == (405, "GET,HEAD")
        status, answer, _ = await client.post("/v1/embeddings", {})
        assert (status, answer["error"]["type"]) == (404, "invalid_request_error")
        status, answer, _ = await client.post("/v1/completions", {"prompt": "x" * (17 << 20)})
        assert (status, answer["error"]["type"]) == (413, "invalid_request_error")
        for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            async with client.session.get("/v1/models", headers=headers) as response:
                assert response.status == 401
                assert (await response.json())["error"]["code"] == "invalid_api_key"


async def test_a_text_as_long_as_the_context_can_be_scored(arithmetic_loader: Any, tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as client:
        body = {"prompt": [1] * 64, "max_tokens": 0, "echo": True, "logprobs": 0}
        status, answer, _ = await client.post("/v1/completions", body)
    assert status == 200
    assert answer["choices"][0]["logprobs"]["token_logprobs"] == [None] + [0.0] * 63


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_frees_every_slot(arithmetic_loader: Any, tmp_path: Path, stream: bool) -> None:
    gate = threading.Semaphore(0)
    engine = FakeEngine(slots=2, steps=1, capacity=5000, before_decode=lambda: gate.acquire(timeout=0.02) and None)
    async with service(arithmetic_loader(engine=lambda: engine), tmp_path) as client:
        endless = {"model": client.handles[0], "prompt": [1], "max_tokens": 4000, "n": 3, "stream": stream}
        async with aiohttp.ClientSession(client.session._base_url, headers=BEARER) as leaving:
            request = asyncio.create_task(leaving.post("/v1/completions", json=endless))
            if stream:
                await (await request).content.readline()
            else:
                await asyncio.sleep(0.2)
                request.cancel()
        short = {"prompt": [1], "max_tokens": 1, "temperature": 0}
        status, answer, _ = await client.post("/v1/completions", short)
    assert (status, answer["choices"][0]["text"]) == (200, '"')


async def test_a_full_queue_is_429_with_retry_after_even_for_a_stream(arithmetic_loader: Any, tmp_path: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert release.wait(20)

    loader = arithmetic_loader(engine=lambda: FakeEngine(slots=1, before_decode=hold))
    async with service(loader, tmp_path, inferencer_queue_limit=2) as client:
        body = {"prompt": [1], "max_tokens": 1, "temperature": 0}
        running = asyncio.create_task(client.post("/v1/completions", body))
        await asyncio.to_thread(entered.wait, 20)
        status, answer, headers = await client.post("/v1/completions", {**body, "n": 3, "stream": True})
        assert (status, answer["error"]["code"]) == (429, "queue_full")
        assert int(headers["Retry-After"]) >= 1
        # What was refused has left nothing in the line.
        waiting = asyncio.create_task(client.post("/v1/completions", {**body, "n": 2}))
        await asyncio.sleep(0.1)
        release.set()
        assert [(await task)[0] for task in (running, waiting)] == [200, 200]


async def test_an_engine_that_breaks_is_503_or_an_event(arithmetic_loader: Any, tmp_path: Path) -> None:
    calls = iter(range(1000))

    def breaks_at_the_third() -> None:
        if next(calls) == 2:
            raise MemoryError("out of memory")

    def engine() -> FakeEngine:
        return FakeEngine(steps=1, before_decode=breaks_at_the_third)

    async with service(arithmetic_loader(engine=engine), tmp_path) as client:
        body = {"model": client.handles[0], "prompt": [1], "max_tokens": 9, "temperature": 0, "stream": True}
        async with client.session.post("/v1/completions", json=body) as response:
            lines = [line async for line in response.content if line.strip()]
    assert response.status == 200
    assert json.loads(lines[-1].removeprefix(b"data: "))["error"]["type"] == "server_error"
    assert b"[DONE]" not in b"".join(lines)


async def test_without_an_address_there_is_no_http(arithmetic_loader: Callable[..., Any], tmp_path: Path) -> None:
    settings = InferencerSettings(home=tmp_path, listen="127.0.0.1:0", token=TOKEN, grace_seconds=0.1)
    stop, bound = asyncio.Event(), []
    serving = asyncio.create_task(
        serve(settings, arithmetic_loader(), stop=stop, on_bound=lambda _: stop.set(), on_http_bound=bound.append)
    )
    await serving
    assert bound == []
