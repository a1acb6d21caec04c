"""Adapters chosen per request: each as if it were merged, and an answer still does not depend on the load."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import jax
import pytest
from typer.testing import CliRunner

from tunix_rt.artifacts import directory_digest
from tunix_rt.cli.main import app
from tunix_rt.inferencer.adapter_loader import AdapterReader
from tunix_rt.inferencer.app import serve
from tunix_rt.inferencer.engine.jax_engine import EngineShape, JaxEngine
from tunix_rt.inferencer.generation import GenerationRequest
from tunix_rt.inferencer.model_loader import JaxModelLoader
from tunix_rt.inferencer.settings import InferencerSettings
from tunix_rt.v1 import common_pb2, inference_pb2, inference_pb2_grpc

TOKEN = "a-token-for-this-test-0123456789"
NEAR_TIE = 1e-4
_CHILD = """
import pickle, sys
from pathlib import Path
from tunix_rt.models.compilation_cache import enable_compilation_cache
if sys.argv[4]:
    enable_compilation_cache(Path(sys.argv[4]))
sys.path.insert(0, sys.argv[5])
from conftest import run_all
from test_adapters import put_all
from tunix_rt.inferencer.engine.jax_engine import EngineShape
from tunix_rt.inferencer.model_loader import JaxModelLoader
directory, adapters, request = sys.argv[1:4]
loader = JaxModelLoader(EngineShape(8, 256, 32, 8), cache_dir=Path(directory))
servable = loader.load(loader.find(Path(directory).as_uri()))
put_all(servable.engine, {path.name: path for path in Path(adapters).iterdir()}, ["mlp", "all", "attention"])
answers = run_all(servable.engine, pickle.loads(Path(request).read_bytes()), servable.tokenizer, at_once=32)
sys.stdout.buffer.write(pickle.dumps(answers))
"""


def put_all(engine: JaxEngine, adapters: Mapping[str, Path], names: Sequence[str] = ()) -> JaxEngine:
    """The engine with these adapters under their names, in this order."""
    reader = AdapterReader(Path("not-used"))
    for place, name in enumerate(names or adapters):
        found = reader.load(reader.find(adapters[name].as_uri()), engine.config)
        engine.prepare_adapter(place, name, found.factors)()
    return engine


def mixed(
    generations: list[GenerationRequest], *, names: Sequence[str] = ("", "all", "attention", "mlp")
) -> list[GenerationRequest]:
    """Adapters in turn, each prompt with all of them; every fifth prompt is scored, half of those generate nothing."""
    return [
        replace(
            generation,
            prompt=generations[i - i % len(names)].prompt,
            adapter=names[i % len(names)],
            **({"prompt_logprobs": i % 3, "max_new_tokens": i % 2 and 5} if i % 5 == 0 else {}),
        )
        for i, generation in enumerate(generations)
    ]


@pytest.mark.slow
def test_mixed_answers_are_byte_identical_whatever_the_load_and_the_places(
    tiny: Any,
    tiny_adapters: dict[str, Path],
    generations_of: Callable[..., list[GenerationRequest]],
    answers_of: Callable[..., Any],
) -> None:
    generations = mixed(generations_of(28, tiny.config.vocab_size, seed=8))
    engine = tiny.engine()
    plain = [i for i, generation in enumerate(generations) if not generation.adapter]
    before = answers_of(engine, [generations[i] for i in plain], tiny.tokenizer, at_once=8)
    put_all(engine, tiny_adapters)
    alone = answers_of(engine, generations, tiny.tokenizer, at_once=1)
    assert [alone[i] for i in plain] == before
    for at_once in (2, 8):
        assert answers_of(engine, generations, tiny.tokenizer, at_once=at_once) == alone
    # The same adapters in other places, one in two, where prompts that begin alike are prefilled once for each.
    other = put_all(tiny.engine(prefix_tokens=512), tiny_adapters, ["mlp", "attention", "mlp", "all"])
    order = list(range(len(generations)))
    random.Random(4).shuffle(order)
    assert answers_of(other, generations, tiny.tokenizer, at_once=32, order=order) == alone


@pytest.mark.slow
def test_nothing_is_compiled_after_the_first_adapter(
    tiny: Any,
    tiny_adapters: dict[str, Path],
    generations_of: Callable[..., list[GenerationRequest]],
    answers_of: Callable[..., Any],
) -> None:
    engine = tiny.engine()
    engine.warm_up()
    put_all(engine, tiny_adapters, ["mlp"])
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_args, **_kwargs: compiled.append(event))
    jax.jit(lambda x: x * 5.75 - 1)(3.0)
    assert any("backend_compile" in event for event in compiled), "the counter does not count"
    compiled.clear()
    put_all(engine, tiny_adapters, ["all", "attention", "mlp"])
    answers_of(engine, mixed(generations_of(60, tiny.config.vocab_size, seed=3)), tiny.tokenizer, at_once=32)
    assert [event for event in compiled if "backend_compile" in event] == []
    # A model of equal shape shares what was compiled.
    put_all(tiny.engine(weights=tiny.other_weights()), tiny_adapters, ["all"])
    assert [event for event in compiled if "adapted" in event] == []


@pytest.mark.slow
def test_an_adapter_answers_as_the_merged_model_does(
    tiny: Any, tiny_adapters: dict[str, Path], answers_of: Callable[..., Any], tmp_path: Path
) -> None:
    chance = random.Random(4)
    prompts = [tuple(chance.randrange(tiny.config.vocab_size) for _ in range(length)) for length in (3, 33, 64, 90)]
    asked = [
        GenerationRequest(prompt=prompt, max_new_tokens=16, top_logprobs=2, prompt_logprobs=0) for prompt in prompts
    ]
    engine = put_all(tiny.engine(), tiny_adapters)
    base = answers_of(engine, asked, tiny.tokenizer, at_once=4)
    loader = JaxModelLoader(EngineShape(8, 256, 32, 8), cache_dir=tmp_path)
    for name, directory in tiny_adapters.items():
        merged = loader.load(loader.find(directory.as_uri()))
        expected = answers_of(merged.engine, asked, merged.tokenizer, at_once=4)
        found = answers_of(engine, [replace(one, adapter=name) for one in asked], tiny.tokenizer, at_once=4)
        assert [[token for token, *_ in answer] for answer in found] != [[t for t, *_ in answer] for answer in base]
        for number, (theirs, ours) in enumerate(zip(expected, found, strict=True)):
            assert_same(theirs, ours, f"{name}, prompt {number}")


@pytest.mark.slow
def test_adapters_of_an_int8_model_are_byte_identical_and_add_what_they_add_to_float32(
    tiny: Any,
    tiny_adapters: dict[str, Path],
    generations_of: Callable[..., list[GenerationRequest]],
    answers_of: Callable[..., Any],
) -> None:
    generations = mixed(generations_of(16, tiny.config.vocab_size, seed=6))
    engine = put_all(tiny.engine(weights=tiny.int8), tiny_adapters)
    alone = answers_of(engine, generations, tiny.tokenizer, at_once=1)
    other = put_all(tiny.engine(weights=tiny.int8), tiny_adapters, ["mlp", "attention", "mlp", "all"])
    assert answers_of(other, generations, tiny.tokenizer, at_once=32) == alone

    prompt = generations[0].prompt
    texts = [
        GenerationRequest(prompt=prompt, max_new_tokens=0, prompt_logprobs=0, adapter=name) for name in tiny_adapters
    ]

    def scores(used: JaxEngine, asked: Sequence[GenerationRequest]) -> list[list[float]]:
        return [[logprob for _, logprob, _ in one] for one in answers_of(used, asked, tiny.tokenizer, at_once=4)]

    exact = put_all(tiny.engine(), tiny_adapters)
    base = scores(exact, [replace(texts[0], adapter="")])[0]
    for float32, int8 in zip(scores(exact, texts), scores(engine, texts), strict=True):
        added = sum(abs(a - b) for a, b in zip(float32, base, strict=True))
        rounded = sum(abs(a - b) for a, b in zip(float32, int8, strict=True))
        assert 0 < rounded < 0.5 * added


def assert_same(theirs: Any, ours: Any, what: str) -> None:
    """Equal tokens and log-probabilities, up to a step where the two likeliest are as good as equally likely."""
    for step, ((token, logprob, top), (own, own_logprob, _)) in enumerate(zip(theirs, ours, strict=True)):
        if token != own:
            margin = top[0][1] - top[1][1]
            print(f"near-tie: {what}, token {step}: {own}, merged {token}, margin {margin:.2e}")
            assert margin <= NEAR_TIE, (what, step)
            return
        assert own_logprob == pytest.approx(logprob, abs=NEAR_TIE), (what, step)


@pytest.mark.slow
async def test_adapters_of_a_real_model_over_grpc(
    tiny: Any,
    tiny_adapters: dict[str, Path],
    answers_of: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loader = JaxModelLoader(EngineShape(8, 256, 32, 8), cache_dir=tmp_path)
    settings = InferencerSettings(home=tmp_path, listen="127.0.0.1:0", token=TOKEN, grace_seconds=1.0)
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(settings, loader, stop=stop, on_bound=port.set_result))
    options: dict[str, Any] = {"timeout": 200, "metadata": (("authorization", f"Bearer {TOKEN}"),)}
    text, config = "the sum of two and three is", common_pb2.GenerationConfig(max_new_tokens=6)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{await port}") as channel:
            stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
            model = await stub.LoadModel(inference_pb2.LoadModelRequest(reference=tiny.reference), **options)

            async def answer(adapter: str) -> inference_pb2.GenerateResponse:
                request = inference_pb2.GenerateRequest(model=model.handle, text=text, config=config, adapter=adapter)
                found: inference_pb2.GenerateResponse = await stub.Generate(request, **options)
                return found

            plain = await answer("")
            digest = directory_digest(tiny_adapters["all"])[0]
            # While the adapter is read (and compiled), the model answers as ever.
            loads = [
                inference_pb2.LoadAdapterRequest(
                    model=model.handle, reference=directory.as_uri(), expected_digest=digest if name == "all" else ""
                )
                for name, directory in tiny_adapters.items()
            ]
            loading = [asyncio.ensure_future(stub.LoadAdapter(load, **options)) for load in [*loads, *loads]]
            meanwhile = await answer("")
            adapters = [await load for load in loading]
            answers = await asyncio.gather(*(answer(adapter.handle) for adapter in adapters), answer(""))
            (listed,) = (await stub.ListLoadedModels(inference_pb2.ListLoadedModelsRequest(), **options)).models
            wrong = inference_pb2.LoadAdapterRequest(
                model=model.handle, reference=loads[0].reference, expected_digest=f"sha256:{'0' * 64}"
            )
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.LoadAdapter(wrong, **options)
            monkeypatch.setenv("TUNIX_RT_TOKEN", TOKEN)
            await asyncio.to_thread(check_command_line, tmp_path, await port, tiny.reference, listed)
            with pytest.raises(grpc.aio.AioRpcError) as no_adapter:
                whole = inference_pb2.LoadAdapterRequest(model=model.handle, reference=tiny.reference)
                await stub.LoadAdapter(whole, **options)
    finally:
        stop.set()
        await serving
    assert [adapter.handle for adapter in adapters[:3]] == [adapter.handle for adapter in adapters[3:]]
    assert list(meanwhile.token_ids) == list(answers[-1].token_ids) == list(plain.token_ids)
    assert adapters[0].digest == answers[0].adapter_digest == digest
    assert [adapter.rank for adapter in adapters[:3]] == [4, 16, 3]
    assert {adapter.handle for adapter in listed.adapters} == {adapter.handle for adapter in adapters}
    assert listed.memory_bytes == model.memory_bytes + 4 * adapters[0].memory_bytes
    assert refused.value.code() is grpc.StatusCode.DATA_LOSS
    assert no_adapter.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    engine, generation = put_all(tiny.engine(), tiny_adapters), GenerationRequest(tuple(tiny.tokenizer.encode(text)))
    for name, found in zip(tiny_adapters, answers, strict=False):
        stops = frozenset(tiny.tokenizer.eos_token_ids)
        asked = replace(generation, max_new_tokens=6, adapter=name, stop_token_ids=stops)
        expected = answers_of(engine, [asked], tiny.tokenizer, at_once=1)[0]
        assert list(found.token_ids) == [token for token, *_ in expected]


def check_command_line(home: Path, port: int, base: str, listed: inference_pb2.LoadedModel) -> None:
    """The adapters that are loaded are listed, loaded again, used and unloaded by their references."""

    def run(*arguments: str) -> str:
        platform = ["--home", str(home), "--address", "127.0.0.1:9", "--inferencer", f"127.0.0.1:{port}"]
        result = CliRunner().invoke(app, [*platform, *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    def document(*arguments: str) -> Any:
        """The service, in the same process, may log before and behind it."""
        text = run(*arguments, "--json")
        return json.JSONDecoder().raw_decode(text, text.index("{"))[0]

    adapter = listed.adapters[0]
    assert all(one.handle in run("models", "loaded") for one in listed.adapters)
    assert document("models", "load-adapter", base, adapter.reference)["handle"] == adapter.handle
    answer = document("generate", base, "two", "--adapter", adapter.reference, "--max-new-tokens", "4")
    assert answer["adapter_digest"] == adapter.digest
    text = document("logprobs", base, "two three four", "--adapter", adapter.reference)
    assert text["adapter_digest"] == adapter.digest
    assert text["total_logprob"] != document("logprobs", base, "two three four")["total_logprob"]
    unloaded = document("models", "unload-adapter", adapter.reference)
    assert unloaded == {"unloaded": adapter.handle}
    assert adapter.handle not in str(document("models", "loaded"))


@pytest.mark.slow
def test_a_restart_with_and_without_compilation_cache_changes_no_bit(
    tiny: Any,
    tiny_adapters: dict[str, Path],
    generations_of: Callable[..., list[GenerationRequest]],
    answers_of: Callable[..., Any],
    tmp_path: Path,
) -> None:
    generations = mixed(generations_of(40, tiny.config.vocab_size, seed=2))
    here = answers_of(put_all(tiny.engine(), tiny_adapters), generations, tiny.tokenizer, at_once=32)
    request, cache = tmp_path / "generations.pickle", tmp_path / "cache"
    request.write_bytes(pickle.dumps(generations))
    adapters = next(iter(tiny_adapters.values())).parent
    kept: list[set[Path]] = []
    for place in ("", str(cache), str(cache)):
        arguments = [str(tiny.directory), str(adapters), str(request), place, str(Path(__file__).parent)]
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, *arguments],
            capture_output=True,
            check=False,
            env=dict(os.environ),
            timeout=280,
        )
        assert child.returncode == 0, child.stderr.decode()
        assert pickle.loads(child.stdout) == here
        kept.append({path for path in cache.rglob("*adapted*-cache")})
    assert len(kept[1]) == 3
    assert kept[2] == kept[1], "the second start compiled again"


@pytest.mark.slow
def test_many_mixed_answers_are_byte_identical(
    tiny: Any,
    tiny_adapters: dict[str, Path],
    generations_of: Callable[..., list[GenerationRequest]],
    answers_of: Callable[..., Any],
) -> None:
    generations = mixed(generations_of(96, tiny.config.vocab_size, seed=9))
    engine = put_all(tiny.engine(), tiny_adapters)
    alone = answers_of(engine, generations, tiny.tokenizer, at_once=1)
    for at_once in (2, 8, 32):
        for names in (["all", "attention", "mlp"], ["mlp", "all", "attention"], ["attention", "mlp", "all", "mlp"]):
            used = put_all(tiny.engine(), tiny_adapters, names)
            order = list(range(len(generations)))
            random.Random(at_once).shuffle(order)
            assert answers_of(used, generations, tiny.tokenizer, at_once=at_once, order=order) == alone
