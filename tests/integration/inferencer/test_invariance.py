"""A request's answer does not depend on its load: byte-identical alone, in a crowd, in any order, after a restart."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest

from tunix_rt.inferencer.generation import Generation, Sampling
from tunix_rt.weight_formats import INT8_V1

_CHILD = """
import pickle, sys
from pathlib import Path
from tunix_rt.inferencer.compilation_cache import enable_compilation_cache
if sys.argv[3]:
    enable_compilation_cache(Path(sys.argv[3]))
sys.path.insert(0, sys.argv[4])
from conftest import run_all
from tunix_rt.inferencer.engine.jax_engine import EngineShape
from tunix_rt.inferencer.model_loader import JaxModelLoader
directory, request = sys.argv[1:3]
loader = JaxModelLoader(EngineShape(8, 256, 32, 8), cache_dir=Path(directory))
servable = loader.load(loader.find(Path(directory).as_uri()))
answers = run_all(servable.engine, pickle.loads(Path(request).read_bytes()), servable.codec, at_once=32)
sys.stdout.buffer.write(pickle.dumps(answers))
"""


def test_answers_are_byte_identical_whatever_the_load(
    tiny: Any, generations_of: Callable[..., list[Generation]], answers_of: Callable[..., Any]
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


def with_scores(generations: list[Generation]) -> list[Generation]:
    """Every other one has its prompt scored, and half of those generate nothing."""
    return [
        generation if i % 2 else replace(generation, prompt_logprobs=i % 3, max_new_tokens=i % 4 and 5)
        for i, generation in enumerate(generations)
    ]


def test_scores_are_byte_identical_whatever_the_load(
    tiny: Any, generations_of: Callable[..., list[Generation]], answers_of: Callable[..., Any]
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


def test_int8_answers_and_scores_are_byte_identical_whatever_the_load(
    tiny: Any, generations_of: Callable[..., list[Generation]], answers_of: Callable[..., Any]
) -> None:
    generations = with_scores(generations_of(32, tiny.config.vocab_size, seed=7))
    alone = answers_of(tiny.engine(weights=tiny.int8), generations, tiny.tokenizer, at_once=1)
    assert len({len(answer) for answer in alone}) > 10
    assert answers_of(tiny.engine(), generations, tiny.tokenizer, at_once=32) != alone, "int8 was not used"
    used = tiny.engine(weights=tiny.int8)
    for at_once in (2, 8, 32):
        assert answers_of(used, generations, tiny.tokenizer, at_once=at_once) == alone
    for seed in range(2):
        order = list(range(len(generations)))
        random.Random(seed).shuffle(order)
        assert answers_of(used, generations, tiny.tokenizer, at_once=32, order=order) == alone


@pytest.mark.slow
def test_a_restart_with_and_without_compilation_cache_changes_no_bit(
    tiny: Any, generations_of: Callable[..., list[Generation]], answers_of: Callable[..., Any], tmp_path: Path
) -> None:
    generations = with_scores(generations_of(40, tiny.config.vocab_size, seed=2))
    here = answers_of(tiny.engine(), generations, tiny.tokenizer, at_once=32)
    request = tmp_path / "generations.pickle"
    request.write_bytes(pickle.dumps(generations))
    for cache in ("", str(tmp_path / "cache"), str(tmp_path / "cache")):
        command = [sys.executable, "-c", _CHILD, str(tiny.directory), str(request), cache, str(Path(__file__).parent)]
        child = subprocess.run(command, capture_output=True, check=False, env=dict(os.environ), timeout=280)
        assert child.returncode == 0, child.stderr.decode()
        assert pickle.loads(child.stdout) == here
    assert any((tmp_path / "cache").rglob("*")), "the cache was never written"


@pytest.mark.parametrize("weight_format", ["", INT8_V1])
def test_nothing_is_compiled_after_warm_up(
    tiny: Any, generations_of: Callable[..., list[Generation]], answers_of: Callable[..., Any], weight_format: str
) -> None:
    engine = tiny.engine(prefix_tokens=256, weights=tiny.int8 if weight_format else tiny.weights)
    engine.warm_up()
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_args, **_kwargs: compiled.append(event))
    jax.jit(lambda x: x * 3.25 + 1)(2.0)
    assert any("backend_compile" in event for event in compiled), "the counter does not count"
    compiled.clear()
    answers_of(engine, with_scores(generations_of(300, tiny.config.vocab_size, seed=3)), tiny.tokenizer, at_once=32)
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
    generation = Generation(prompt=prompt, sampling=Sampling(), max_new_tokens=4)
    answer = answers_of(tiny.engine(), [generation], tiny.tokenizer, at_once=1)[0]
    assert len(answer) == min(4, 256 - length)
    assert [token for token, _, _ in answer] == tiny.greedy(prompt, len(answer))
