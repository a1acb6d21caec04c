"""A request's answer does not depend on its load: byte-identical alone, in a crowd, in any order, after a restart."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest

from tunix_rt.contract.weight_formats import INT8_V1
from tunix_rt.inferencer.generation import Delta, Failure, GenerationRequest, Sampling
from tunix_rt.inferencer.scheduler import Scheduler, Ticket
from tunix_rt.inferencer.text import Transcript

_CHILD = """
import json, pickle, sys
from pathlib import Path
from tunix_rt.models.compilation_cache import enable_compilation_cache
directory, request, cache, tests, build = sys.argv[1:]
if cache:
    enable_compilation_cache(Path(cache))
sys.path.insert(0, tests)
from conftest import load_tiny, run_all
servable = load_tiny(Path(directory), **json.loads(build))
answers = run_all(servable.engine, pickle.loads(Path(request).read_bytes()), servable.tokenizer, at_once=32)
sys.stdout.buffer.write(pickle.dumps(answers))
"""


def test_answers_are_byte_identical_whatever_the_load(
    tiny: Any, generations_of: Callable[..., list[GenerationRequest]], answers_of: Callable[..., Any]
) -> None:
    generations = generations_of(48, tiny.config.vocab_size)
    alone = answers_of(tiny.engine(), generations, tiny.tokenizer, at_once=1)
    assert len({len(answer) for answer in alone}) > 10
    for at_once in (2, 8, 32):
        assert answers_of(tiny.engine(), generations, tiny.tokenizer, at_once=at_once) == alone
    used = tiny.engine()
    for seed in range(3):
        order = list(range(len(generations)))
        random.Random(seed).shuffle(order)
        assert answers_of(used, generations, tiny.tokenizer, at_once=32, order=order) == alone


def with_scores(generations: list[GenerationRequest]) -> list[GenerationRequest]:
    """Every other one has its prompt scored, and half of those generate nothing."""
    return [
        generation if i % 2 else replace(generation, prompt_logprobs=i % 3, max_new_tokens=i % 4 and 5)
        for i, generation in enumerate(generations)
    ]


def test_scores_are_byte_identical_whatever_the_load(
    tiny: Any, generations_of: Callable[..., list[GenerationRequest]], answers_of: Callable[..., Any]
) -> None:
    generations = with_scores(generations_of(32, tiny.config.vocab_size, seed=5))
    alone = answers_of(tiny.engine(), generations, tiny.tokenizer, at_once=1)
    scored_only = [i for i, generation in enumerate(generations) if generation.max_new_tokens == 0]
    assert [len(alone[i]) for i in scored_only] == [len(generations[i].prompt) - 1 for i in scored_only]
    used = tiny.engine()
    for at_once in (8, 32):
        assert answers_of(used, generations, tiny.tokenizer, at_once=at_once) == alone
    order = list(range(len(generations)))
    random.Random(1).shuffle(order)
    assert answers_of(used, generations, tiny.tokenizer, at_once=32, order=order) == alone


@pytest.mark.slow
def test_int8_answers_and_scores_are_byte_identical_whatever_the_load(
    tiny: Any, generations_of: Callable[..., list[GenerationRequest]], answers_of: Callable[..., Any]
) -> None:
    generations = with_scores(generations_of(24, tiny.config.vocab_size, seed=7))
    alone = answers_of(tiny.engine(weights=tiny.int8), generations, tiny.tokenizer, at_once=1)
    assert len({len(answer) for answer in alone}) > 10
    assert answers_of(tiny.engine(), generations, tiny.tokenizer, at_once=32) != alone, "int8 was not used"
    used = tiny.engine(weights=tiny.int8)
    for at_once in (2, 8, 32):
        assert answers_of(used, generations, tiny.tokenizer, at_once=at_once) == alone
    order = list(range(len(generations)))
    random.Random(1).shuffle(order)
    assert answers_of(used, generations, tiny.tokenizer, at_once=32, order=order) == alone


# How engines are built, by name; the tests below are about each. What else changes an engine's programs or their input
# (prefixes that are kept, a weight format) is a line here.
BUILDS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32, prefixes kept": {"prefix_tokens": 2048},
    "int8": {"weight_format": INT8_V1},
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("build", BUILDS)
def test_two_hundred_prompts_are_byte_identical_whatever_the_load_and_after_a_restart(
    build: str, tiny: Any, serve_tiny: Callable[..., Any], answers_of: Callable[..., Any], tmp_path: Path
) -> None:
    chance, vocabulary = random.Random(7), tiny.config.vocab_size
    lengths = [1, 31, 32, 33, 64, 65, 200, 255, *(chance.randint(1, 120) for _ in range(192))]
    kinds = (Sampling(), Sampling(temperature=1.0, top_p=0.95), Sampling(temperature=0.7, repetition_penalty=1.2))
    # Two thirds of every other prompt are as in others, so that there are prefixes to be reused.
    beginnings = [tuple(chance.randrange(vocabulary) for _ in range(170)) for _ in range(3)]
    prompts = []
    for i, length in enumerate(lengths):
        beginning = chance.choice(beginnings)[: length * 2 // 3] if i % 2 else ()
        prompts.append(beginning + tuple(chance.randrange(vocabulary) for _ in range(length - len(beginning))))
    generations = [
        GenerationRequest(
            prompt=prompt,
            sampling=replace(sampling, seed=chance.getrandbits(60)),
            max_new_tokens=chance.randint(1, 48),
            stop_token_ids=frozenset({chance.randrange(vocabulary)}),
            top_logprobs=chance.choice((-1, 0, 4)),
        )
        for prompt in prompts
        for sampling in (kinds[0], kinds[1 + len(prompt) % 2])
    ]
    servable = serve_tiny(tiny.directory, **BUILDS[build])
    engine, tokenizer = servable.engine, servable.tokenizer
    alone = answers_of(engine, generations, tokenizer, at_once=1)
    assert len(alone) == 400
    for at_once in (2, 8, 32):
        assert answers_of(engine, generations, tokenizer, at_once=at_once) == alone
    for seed in range(3):
        order = list(range(len(generations)))
        random.Random(seed).shuffle(order)
        assert answers_of(engine, generations, tokenizer, at_once=32, order=order) == alone
    assert after_restart(tiny, generations, tmp_path, build=BUILDS[build]) == alone
    if "prefix_tokens" in BUILDS[build]:
        assert answers_of(serve_tiny(tiny.directory).engine, generations, tokenizer, at_once=32) == alone
    if "prefix_tokens" in BUILDS[build]:  # the same prompts came again and again
        without = serve_tiny(tiny.directory, **BUILDS[build] | {"prefix_tokens": 0})
        assert answers_of(without.engine, generations, tokenizer, at_once=32) == alone


@pytest.mark.slow
def test_a_restart_with_and_without_compilation_cache_changes_no_bit(
    tiny: Any, generations_of: Callable[..., list[GenerationRequest]], answers_of: Callable[..., Any], tmp_path: Path
) -> None:
    generations = with_scores(generations_of(40, tiny.config.vocab_size, seed=2))
    here = answers_of(tiny.engine(), generations, tiny.tokenizer, at_once=32)
    cache = str(tmp_path / "cache")
    for kept in ("", cache, cache):
        assert after_restart(tiny, generations, tmp_path, cache=kept) == here
    assert any((tmp_path / "cache").rglob("*")), "the cache was never written"


def after_restart(
    tiny: Any, generations: list[GenerationRequest], home: Path, *, cache: str = "", build: dict[str, Any] | None = None
) -> Any:
    """The answers of another process, 32 in flight; with a compilation cache in the directory ``cache``."""
    request = home / "generations.pickle"
    request.write_bytes(pickle.dumps(generations))
    arguments = [str(tiny.directory), str(request), cache, str(Path(__file__).parent), json.dumps(build or {})]
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, *arguments], capture_output=True, check=False, env=dict(os.environ), timeout=900
    )
    assert child.returncode == 0, child.stderr.decode()
    return pickle.loads(child.stdout)


def crowd(engine: Any, generations: list[GenerationRequest], tokenizer: Any) -> Counter[str]:
    """Run all, 32 at a time, and give up about every fifth while it waits, prefills or decodes; how they ended."""
    scheduler, chance = Scheduler(engine), random.Random(9)
    ended: Counter[str] = Counter()
    waiting, running = list(generations), dict[int, Ticket]()

    def sink_of(number: int) -> Callable[[Delta | Failure], None]:
        def sink(event: Delta | Failure) -> None:
            assert isinstance(event, Delta)
            if event.finish is not None:
                ended[event.finish.value] += 1
                del running[number]

        return sink

    while waiting or running:
        while waiting and len(running) < 32:
            generation = waiting.pop()
            transcript = Transcript(tokenizer.detokenizer(), generation.stop)
            running[len(waiting)] = scheduler.submit(generation, transcript, sink_of(len(waiting)))
        if chance.random() < 0.4:
            chance.choice(list(running.values())).cancel()
        scheduler.tick()
    assert (scheduler.busy_slots, scheduler.waiting) == (0, 0)
    return ended


@pytest.mark.parametrize("weight_format", ["", pytest.param(INT8_V1, marks=pytest.mark.slow)])
def test_nothing_is_compiled_after_warm_up(
    tiny: Any, generations_of: Callable[..., list[GenerationRequest]], weight_format: str
) -> None:
    engine = tiny.engine(prefix_tokens=256, weights=tiny.int8 if weight_format else tiny.weights)
    vocabulary = tiny.config.vocab_size
    engine.warm_up()
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_args, **_kwargs: compiled.append(event))
    jax.jit(lambda x: x * 3.25 + 1)(2.0)
    assert any("backend_compile" in event for event in compiled), "the counter does not count"
    mixed = generations_of(975, vocabulary, seed=3) + generations_of(25, vocabulary, seed=4, max_prompt=255)
    mixed = [replace(generation, stop=("the", "=") if i % 5 == 0 else ()) for i, generation in enumerate(mixed)]
    compiled.clear()
    ended = crowd(engine, with_scores(mixed), tiny.tokenizer)
    assert ended.total() == 1000
    assert min(ended[reason] for reason in ("stop", "length", "cancelled")) >= 20, ended
    assert [event for event in compiled if "backend_compile" in event] == []


def test_a_model_of_equal_shape_is_warm_at_once(tiny: Any) -> None:
    tiny.engine().warm_up()
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_args, **_kwargs: compiled.append(event))
    other = tiny.other_weights()
    compiled.clear()
    engine = tiny.engine(weights=other)
    engine.warm_up()
    assert [event for event in compiled if "backend_compile" in event] == []


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 64, 65, 254, 255])
def test_prompts_at_chunk_borders_and_up_to_the_capacity(
    tiny: Any, answers_of: Callable[..., Any], length: int
) -> None:
    prompt = tuple((7 * i + length) % tiny.config.vocab_size for i in range(length))
    generation = GenerationRequest(prompt=prompt, sampling=Sampling(), max_new_tokens=4)
    answer = answers_of(tiny.engine(), [generation], tiny.tokenizer, at_once=1)[0]
    assert len(answer) == min(4, 256 - length)
    assert [token for token, _, _ in answer] == tiny.greedy(prompt, len(answer))
