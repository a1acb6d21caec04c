"""InferenceService over real gRPC, with models that can be computed by hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.fixtures.fake_engine import FakeEngine

from tunix_rt.errors import Exhausted, InvalidInput
from tunix_rt.inferencer.app import serve
from tunix_rt.inferencer.engine.interface import SlotSpec
from tunix_rt.inferencer.generation import ChosenToken
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.rpc.errors import from_rpc_error
from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc

TOKEN = "a-token-for-this-test-0123456789"
DEADLINE = 20.0


@asynccontextmanager
async def service(
    loader: Any, home: Path, **options: Any
) -> AsyncIterator[inference_pb2_grpc.InferenceServiceAsyncStub]:
    settings = InferencerSettings(home=home, listen="127.0.0.1:0", token=TOKEN, grace_seconds=1.0, **options)
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(settings, loader, stop=stop, on_bound=port.set_result))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{await port}") as channel:
            yield _Authorized(channel)  # type: ignore[misc]
    finally:
        stop.set()
        await serving


class _Authorized:
    """The stub, with token and deadline on every call."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = inference_pb2_grpc.InferenceServiceStub(channel)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._stub, name)
        return lambda request, timeout=DEADLINE: method(
            request, timeout=timeout, metadata=(("authorization", f"Bearer {TOKEN}"),)
        )


async def loaded(stub: Any, reference: str = "test://a") -> str:
    answer = await stub.LoadModel(inference_pb2.LoadModelRequest(reference=reference))
    return str(answer.handle)


def tokens(*ids: int) -> inference_pb2.TokenInput:
    return inference_pb2.TokenInput(token_ids=ids)


async def violations(call: Any) -> list[str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    error = from_rpc_error(refused.value)
    assert isinstance(error, InvalidInput), error
    return sorted(violation.field for violation in error.violations)


async def test_generate_answers_what_was_computed_by_hand(
    arithmetic_loader: Callable[..., Any], tmp_path: Path
) -> None:
    async with service(arithmetic_loader(), tmp_path) as stub:
        request = inference_pb2.GenerateRequest(
            model=await loaded(stub),
            tokens=tokens(10, 20, 30),
            config=common_pb2.GenerationConfig(max_new_tokens=3),
            return_logprobs=True,
            top_logprobs=2,
        )
        answer = await stub.Generate(request)
        listed = await stub.ListLoadedModels(inference_pb2.ListLoadedModelsRequest())
    assert list(answer.token_ids) == [63, 64, 65]
    assert answer.text == "_`a"
    assert answer.finish_reason == common_pb2.FINISH_REASON_LENGTH
    assert [(top.token_id, top.token, top.logprob) for top in answer.logprobs[0].top] == [
        (63, "_", 0.0),
        (64, "`", -1.0),
    ]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 3)
    assert 0 <= answer.usage.queue_seconds <= answer.usage.first_token_seconds <= answer.usage.total_seconds
    assert answer.model_digest == listed.models[0].digest


async def test_a_score_is_what_was_computed_by_hand(arithmetic_loader: Callable[..., Any], tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as stub:
        handle = await loaded(stub)
        by_ids = await stub.Score(inference_pb2.ScoreRequest(model=handle, tokens=tokens(10, 12, 11), top_logprobs=2))
        by_text = await stub.Score(inference_pb2.ScoreRequest(model=handle, text="*,+"))
        longest = await stub.Score(inference_pb2.ScoreRequest(model=handle, tokens=tokens(*[1] * 64)))
        single = await stub.Score(inference_pb2.ScoreRequest(model=handle, tokens=tokens(7)))
    assert list(by_ids.token_ids) == list(by_text.token_ids) == [10, 12, 11]
    assert [(t.token_id, t.token, t.logprob) for t in by_ids.logprobs] == [(12, ",", -2.0), (11, "+", -96.0)]
    assert [(top.token_id, top.logprob) for top in by_ids.logprobs[0].top] == [(10, 0.0), (11, -1.0)]
    assert [list(t.top) for t in by_text.logprobs] == [[], []]
    assert (by_ids.usage.prompt_tokens, by_ids.usage.completion_tokens) == (3, 0)
    assert by_ids.model_digest
    assert len(longest.logprobs) == 63
    assert (list(single.token_ids), list(single.logprobs)) == ([7], [])


async def test_every_violation_of_a_score_is_named_at_once(
    arithmetic_loader: Callable[..., Any], tmp_path: Path
) -> None:
    async with service(arithmetic_loader(), tmp_path) as stub:
        handle = await loaded(stub)
        assert await violations(stub.Score(inference_pb2.ScoreRequest(top_logprobs=21))) == [
            "input",
            "model",
            "top_logprobs",
        ]
        for wrong in (tokens(), tokens(97), tokens(-1), tokens(*[1] * 65)):
            request = inference_pb2.ScoreRequest(model=handle, tokens=wrong)
            assert await violations(stub.Score(request)) == ["tokens.token_ids"]
        assert await violations(stub.Score(inference_pb2.ScoreRequest(model=handle, text=""))) == ["text"]
        # The tokenizer knows "€", the model of 97 ids does not.
        assert await violations(stub.Score(inference_pb2.ScoreRequest(model=handle, text="a€"))) == ["text"]
        generate = inference_pb2.GenerateRequest(model=handle, text="a€")
        assert await violations(stub.Generate(generate)) == ["text"]
        generate.chat.messages.add(role="user", content="a€")
        assert await violations(stub.Generate(generate)) == ["chat"]
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await stub.Score(inference_pb2.ScoreRequest(model="loaded-0", text="x"))
        assert missing.value.code() is grpc.StatusCode.NOT_FOUND


async def adapted(stub: Any, model: str, reference: str = "adapter://x/3/a") -> inference_pb2.LoadedAdapter:
    answer: inference_pb2.LoadedAdapter = await stub.LoadAdapter(
        inference_pb2.LoadAdapterRequest(model=model, reference=reference)
    )
    return answer


async def test_a_request_chooses_its_adapter(arithmetic_loader: Callable[..., Any], tmp_path: Path) -> None:
    config = common_pb2.GenerationConfig(max_new_tokens=3)
    async with service(arithmetic_loader(), tmp_path) as stub:
        handle = await loaded(stub)
        three, five = await adapted(stub, handle), await adapted(stub, handle, "adapter://y/5/a")
        requests = {
            name: inference_pb2.GenerateRequest(model=handle, adapter=name, tokens=tokens(10, 20, 30), config=config)
            for name in ("", three.handle, five.handle)
        }
        answers = await asyncio.gather(*(stub.Generate(requests[name]) for name in requests))
        pieces = [piece async for piece in stub.GenerateStream(requests[three.handle])]
        score = await stub.Score(inference_pb2.ScoreRequest(model=handle, adapter=three.handle, tokens=tokens(1, 4)))
        (listed,) = (await stub.ListLoadedModels(inference_pb2.ListLoadedModelsRequest())).models
    # The sum 60, positions 3..5, and the adapter's rank.
    assert [list(answer.token_ids) for answer in answers] == [[63, 64, 65], [66, 67, 68], [68, 69, 70]]
    assert [answer.adapter_digest for answer in answers] == ["", three.digest, five.digest]
    assert {answer.model_digest for answer in answers} == {listed.digest}
    assert [token for piece in pieces for token in piece.token_ids] == [66, 67, 68]
    assert [piece.adapter_digest for piece in pieces] == [""] * (len(pieces) - 1) + [three.digest]
    assert (score.logprobs[0].logprob, score.adapter_digest) == (0.0, three.digest)
    assert {adapter.handle for adapter in listed.adapters} == {three.handle, five.handle}
    assert (three.model, three.rank, three.memory_bytes) == (handle, 3, 8)


async def test_an_adapter_ends_answers_at_its_own_end_of_sequence(
    arithmetic_loader: Callable[..., Any], tmp_path: Path
) -> None:
    async with service(arithmetic_loader(), tmp_path) as stub:
        handle = await loaded(stub)
        name = (await adapted(stub, handle)).handle
        answer = await stub.Generate(inference_pb2.GenerateRequest(model=handle, adapter=name, tokens=tokens(91)))
    assert list(answer.token_ids) == [95, 96, 0, 1]
    assert answer.finish_reason == common_pb2.FINISH_REASON_STOP


async def test_adapters_that_cannot_serve_are_refused(arithmetic_loader: Callable[..., Any], tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as stub:
        handle, other = await loaded(stub), await loaded(stub, "test://b")
        adapter = await adapted(stub, handle)
        assert await violations(stub.LoadAdapter(inference_pb2.LoadAdapterRequest(expected_digest="md5:1"))) == [
            "expected_digest",
            "model",
            "reference",
        ]
        request = inference_pb2.LoadAdapterRequest(model=other, reference="adapter://x/9/a")
        assert await violations(stub.LoadAdapter(request)) == ["reference", "reference"]
        for call in (
            stub.Generate(inference_pb2.GenerateRequest(model=other, adapter=adapter.handle, text="x")),
            stub.Score(inference_pb2.ScoreRequest(model=handle, adapter="adapter-0", text="x")),
            stub.LoadAdapter(inference_pb2.LoadAdapterRequest(model="loaded-0", reference="adapter://x/3/a")),
            stub.UnloadAdapter(inference_pb2.UnloadAdapterRequest(handle="adapter-0")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as missing:
                await call
            assert missing.value.code() is grpc.StatusCode.NOT_FOUND
        await stub.UnloadAdapter(inference_pb2.UnloadAdapterRequest(handle=adapter.handle))
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await stub.Generate(inference_pb2.GenerateRequest(model=handle, adapter=adapter.handle, text="x"))
        assert gone.value.code() is grpc.StatusCode.NOT_FOUND


async def test_an_adapter_in_use_is_not_unloaded(arithmetic_loader: Callable[..., Any], tmp_path: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert release.wait(20)

    async with service(arithmetic_loader(engine=lambda: FakeEngine(before_decode=hold)), tmp_path) as stub:
        handle = await loaded(stub)
        name = (await adapted(stub, handle)).handle
        config = common_pb2.GenerationConfig(max_new_tokens=1)
        request = inference_pb2.GenerateRequest(model=handle, adapter=name, tokens=tokens(1), config=config)
        running = asyncio.ensure_future(stub.Generate(request))
        await asyncio.to_thread(entered.wait, 20)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.UnloadAdapter(inference_pb2.UnloadAdapterRequest(handle=name))
        release.set()
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert list((await running).token_ids) == [5]


async def test_a_stream_concatenates_to_the_unary_answer(arithmetic_loader: Callable[..., Any], tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as stub:
        # From 90 on: printable to 94, then the two bytes of "é" as tokens 95 and 96, then 0 = " ".
        request = inference_pb2.GenerateRequest(
            model=await loaded(stub),
            tokens=tokens(89),
            config=common_pb2.GenerationConfig(max_new_tokens=12, stop=['"#']),
        )
        unary = await stub.Generate(request)
        pieces = [piece async for piece in stub.GenerateStream(request)]
    assert unary.text == "z{|}~é !"
    assert "".join(piece.text for piece in pieces) == unary.text
    assert [token for piece in pieces for token in piece.token_ids] == list(unary.token_ids)
    assert pieces[-1].finish_reason == common_pb2.FINISH_REASON_STOP
    assert pieces[-1].usage.completion_tokens == len(unary.token_ids)
    assert all(piece.finish_reason == common_pb2.FINISH_REASON_UNSPECIFIED for piece in pieces[:-1])
    assert all("\N{REPLACEMENT CHARACTER}" not in piece.text for piece in pieces)


async def test_chat_is_rendered_with_the_system_prompt_first(
    arithmetic_loader: Callable[..., Any], tmp_path: Path
) -> None:
    chat = inference_pb2.ChatInput(messages=[inference_pb2.ChatMessage(role="user", content="hi")])
    config = common_pb2.GenerationConfig(max_new_tokens=1, system_prompt="be")
    async with service(arithmetic_loader(), tmp_path) as stub:
        handle = await loaded(stub)
        answer = await stub.Generate(inference_pb2.GenerateRequest(model=handle, chat=chat, config=config))
        config = common_pb2.GenerationConfig(max_new_tokens=1, chat_template="plain", parse_control_tokens=True)
        other = await stub.Generate(inference_pb2.GenerateRequest(model=handle, chat=chat, config=config))
    assert answer.usage.prompt_tokens == len("<system>be<user>hi")
    assert other.usage.prompt_tokens == len("!plain<user>hi")


async def test_the_end_of_turn_of_a_requests_own_template_stops(
    arithmetic_loader: Callable[..., Any], tmp_path: Path
) -> None:
    chat = inference_pb2.ChatInput(messages=[inference_pb2.ChatMessage(role="user", content="hi")])
    async with service(arithmetic_loader(), tmp_path) as stub:
        handle = await loaded(stub)
        stops = {}
        for template in ("", "plain"):
            config = common_pb2.GenerationConfig(max_new_tokens=48, chat_template=template)
            request = inference_pb2.GenerateRequest(model=handle, chat=chat, config=config)
            stops[template] = (await stub.Generate(request)).finish_reason
    # Tokens follow one another, and its end of turn, "p", is among the 48 of either prompt.
    assert stops == {"": common_pb2.FINISH_REASON_LENGTH, "plain": common_pb2.FINISH_REASON_STOP}


async def test_the_models_end_of_sequence_stops(arithmetic_loader: Callable[..., Any], tmp_path: Path) -> None:
    async with service(arithmetic_loader(eos_ids=frozenset({63})), tmp_path) as stub:
        request = inference_pb2.GenerateRequest(model=await loaded(stub), tokens=tokens(60))
        answer = await stub.Generate(request)
    assert list(answer.token_ids) == [61, 62, 63]
    assert answer.text == "]^"
    assert answer.finish_reason == common_pb2.FINISH_REASON_STOP


async def test_a_model_is_served_in_the_weight_format_that_was_asked_for(
    arithmetic_loader: Callable[..., Any], tmp_path: Path
) -> None:
    def request(model: str, weight_format: str) -> inference_pb2.GenerateRequest:
        config = common_pb2.GenerationConfig(max_new_tokens=2, weight_format=weight_format)
        return inference_pb2.GenerateRequest(model=model, tokens=tokens(60), config=config)

    async with service(arithmetic_loader(), tmp_path) as stub:
        plain = await stub.LoadModel(inference_pb2.LoadModelRequest(reference="test://a"))
        asked = inference_pb2.LoadModelRequest(reference="test://a", weight_format="int8-v1")
        int8 = await stub.LoadModel(asked)
        assert (plain.weight_format, int8.weight_format) == ("", "int8-v1")
        assert plain.digest == int8.digest
        assert plain.handle != int8.handle
        listed = (await stub.ListLoadedModels(inference_pb2.ListLoadedModelsRequest())).models
        assert {model.handle: model.weight_format for model in listed} == {plain.handle: "", int8.handle: "int8-v1"}
        for handle, weight_format in ((plain.handle, ""), (int8.handle, ""), (int8.handle, "int8-v1")):
            assert list((await stub.Generate(request(handle, weight_format))).token_ids) == [61, 62]
        for handle, weight_format, said in (
            (plain.handle, "int8-v1", "the loaded model has ''"),
            (plain.handle, "int8", 'expected one of "", int8-v1'),
            (int8.handle, "int8", 'expected one of "", int8-v1'),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match=said) as refused:
                await stub.Generate(request(handle, weight_format))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert await violations(stub.Generate(request(handle, weight_format))) == ["config.weight_format"]
        asked.weight_format = "int8"
        with pytest.raises(grpc.aio.AioRpcError, match=r"weight_format.*int8-v1"):
            await stub.LoadModel(asked)
        assert await violations(stub.LoadModel(asked)) == ["weight_format"]


async def test_every_violation_is_named_at_once(arithmetic_loader: Callable[..., Any], tmp_path: Path) -> None:
    config = common_pb2.GenerationConfig(
        max_new_tokens=0,
        temperature=-1,
        top_k=-1,
        top_p=0,
        min_p=1,
        repetition_penalty=0,
        stop=["x"] * 15 + ["", "x"],
        stop_token_ids=range(17),
        dtype="bfloat16",
        weight_format="int8",
        system_prompt="x",
        chat_template="alpaca",
        parse_control_tokens=True,
        prompt_version=1,
    )
    request = inference_pb2.GenerateRequest(text="", config=config, top_logprobs=21)
    names = "dtype max_new_tokens min_p repetition_penalty stop stop[15] stop_token_ids system_prompt temperature top_k"
    expected = [
        *(f"config.{name}" for name in [*names.split(), "top_p", "weight_format"]),
        *(f"config.{name}" for name in ("chat_template", "chat_template", "parse_control_tokens", "prompt_version")),
        "model",
        "text",
        "top_logprobs",
    ]
    async with service(arithmetic_loader(), tmp_path) as stub:
        assert await violations(stub.Generate(request)) == sorted(expected)
        assert await violations(stub.LoadModel(inference_pb2.LoadModelRequest(expected_digest="md5:1"))) == [
            "expected_digest",
            "reference",
        ]


async def test_input_is_checked_against_the_model(arithmetic_loader: Callable[..., Any], tmp_path: Path) -> None:
    message = inference_pb2.ChatMessage
    async with service(arithmetic_loader(), tmp_path) as stub:
        handle = await loaded(stub)

        def bad(**fields: Any) -> Any:
            return violations(stub.Generate(inference_pb2.GenerateRequest(model=handle, **fields)))

        assert await bad() == ["input"]
        assert await bad(tokens=tokens()) == ["tokens.token_ids"]
        assert await bad(tokens=tokens(97)) == ["tokens.token_ids"]
        assert await bad(tokens=tokens(*[1] * 64)) == ["tokens.token_ids"]
        assert await bad(text="x" * 64) == ["text"]
        assert await bad(chat=inference_pb2.ChatInput()) == ["chat.messages"]
        assert await bad(chat=inference_pb2.ChatInput(messages=[message(role="user", content="x" * 90)])) == ["chat"]
        talk = inference_pb2.ChatInput(messages=[message(role="user", content="x"), message(role="robot")])
        assert await bad(chat=talk) == ["chat.messages[1].content", "chat.messages[1].role", "chat.messages[1].role"]
        config = common_pb2.GenerationConfig(stop_token_ids=[97])
        assert await bad(text="x", config=config) == ["config.stop_token_ids"]
        longest = inference_pb2.GenerateRequest(model=handle, tokens=tokens(*[1] * 63))
        assert len((await stub.Generate(longest)).token_ids) == 1


async def test_an_unknown_handle_is_not_found(arithmetic_loader: Callable[..., Any], tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as stub:
        for call in (
            stub.Generate(inference_pb2.GenerateRequest(model="loaded-0", text="x")),
            stub.UnloadModel(inference_pb2.UnloadModelRequest(handle="loaded-0")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as missing:
                await call
            assert missing.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_client_that_goes_away_frees_its_slot(arithmetic_loader: Callable[..., Any], tmp_path: Path) -> None:
    gate = threading.Semaphore(0)
    engine = FakeEngine(slots=1, steps=1, capacity=5000, before_decode=lambda: gate.acquire(timeout=0.02) and None)
    async with service(arithmetic_loader(engine=lambda: engine), tmp_path) as stub:
        handle = await loaded(stub)
        config = common_pb2.GenerationConfig(max_new_tokens=4000)
        endless = inference_pb2.GenerateRequest(model=handle, tokens=tokens(1), config=config)
        stream = stub.GenerateStream(endless)
        await stream.read()
        stream.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await stub.Generate(endless, timeout=0.3)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        short = inference_pb2.GenerateRequest(
            model=handle, tokens=tokens(1), config=common_pb2.GenerationConfig(max_new_tokens=1)
        )
        assert list((await stub.Generate(short)).token_ids) == [2]


async def test_a_full_queue_is_resource_exhausted_with_retry_info(
    arithmetic_loader: Callable[..., Any], tmp_path: Path
) -> None:
    entered, release = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert release.wait(20)

    loader = arithmetic_loader(engine=lambda: FakeEngine(slots=1, before_decode=hold))
    async with service(loader, tmp_path, inferencer_queue_limit=1) as stub:
        request = inference_pb2.GenerateRequest(
            model=await loaded(stub), tokens=tokens(1), config=common_pb2.GenerationConfig(max_new_tokens=1)
        )
        running = asyncio.ensure_future(stub.Generate(request))
        await asyncio.to_thread(entered.wait, 20)
        others = [asyncio.ensure_future(stub.Generate(request)) for _ in range(3)]
        done, waiting = await asyncio.wait(others, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        while len(waiting) > 1:
            more, waiting = await asyncio.wait(waiting, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        for refused in done:
            error = from_rpc_error(refused.exception())  # type: ignore[arg-type]
            assert isinstance(error, Exhausted)
            assert error.retry_after_seconds > 0
        release.set()
        for answered in [running, *waiting]:
            assert list((await answered).token_ids) == [2]


async def test_a_broken_engine_is_unavailable_and_can_be_loaded_again(
    arithmetic_loader: Callable[..., Any], tmp_path: Path
) -> None:
    broken = iter([True, False])

    def engine() -> FakeEngine:
        if next(broken):
            return FakeEngine(before_decode=lambda: (_ for _ in ()).throw(MemoryError("out of memory")))
        return FakeEngine()

    async with service(arithmetic_loader(engine=engine), tmp_path) as stub:
        handle = await loaded(stub)
        request = inference_pb2.GenerateRequest(
            model=handle, tokens=tokens(1), config=common_pb2.GenerationConfig(max_new_tokens=1)
        )
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Generate(request)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await loaded(stub) == handle
        assert list((await stub.Generate(request)).token_ids) == [2]


async def test_a_request_that_breaks_the_engine_when_it_gets_its_slot_is_answered(
    arithmetic_loader: Callable[..., Any], tmp_path: Path
) -> None:
    class Refusing(FakeEngine):
        def open(self, slot: int, spec: SlotSpec) -> None:
            raise IndexError("index 2147483648 is out of bounds")

    class Unscoring(FakeEngine):
        def prompt_scores(self, slot: int) -> tuple[ChosenToken, ...]:
            raise MemoryError("out of memory")

    for kind in (Refusing, Unscoring):
        async with service(arithmetic_loader(engine=kind), tmp_path) as stub:
            handle = await loaded(stub)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stub.Score(inference_pb2.ScoreRequest(model=handle, tokens=tokens(1, 2)))
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_calls_without_the_token_are_refused(arithmetic_loader: Callable[..., Any], tmp_path: Path) -> None:
    async with service(arithmetic_loader(), tmp_path) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub._stub.ListLoadedModels(inference_pb2.ListLoadedModelsRequest(), timeout=DEADLINE)  # type: ignore[attr-defined]
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
