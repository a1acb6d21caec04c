"""Prompts that begin alike share what was prefilled, and answer to the last bit as if they did not."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tunix_rt.inferencer.engine.interface import Engine, SlotSpec
from tunix_rt.inferencer.generation import GenerationRequest, Sampling

CHUNK = 32


def with_shared_beginnings(generations: list[GenerationRequest], vocabulary: int) -> list[GenerationRequest]:
    """Each behind one of five beginnings, some of which begin alike, of lengths around the chunk's borders."""
    chance = random.Random(8)
    long = tuple(chance.randrange(vocabulary) for _ in range(150))
    other = (*long[:70], *(chance.randrange(vocabulary) for _ in range(60)))
    beginnings = (long, long[:64], other, long[:33], ())
    return [
        replace(generation, prompt=beginnings[i % len(beginnings)] + generation.prompt)
        for i, generation in enumerate(generations)
    ]


def prefilled(engine: Engine, slot: int, spec: SlotSpec) -> int:
    """Prefill a prompt; returns how many of its tokens were taken over."""
    engine.open(slot, spec)
    while not engine.prefill(slot):
        pass
    found = engine.reused(slot)
    engine.close(slot)
    return found


def plain(prompt: tuple[int, ...]) -> SlotSpec:
    return SlotSpec(prompt, Sampling(), 1, frozenset())


def test_answers_are_byte_identical_with_and_without_reuse(
    tiny: Any, generations_of: Callable[..., list[GenerationRequest]], answers_of: Callable[..., Any]
) -> None:
    generations = with_shared_beginnings(generations_of(40, tiny.config.vocab_size, seed=9), tiny.config.vocab_size)
    alone = answers_of(tiny.engine(), generations, tiny.tokenizer, at_once=1)
    # Room for everything, and so little room that pages are taken over all the time.
    for pages in (200, 3):
        engine = tiny.engine(prefix_tokens=pages * CHUNK)
        for at_once in (1, 32):
            assert answers_of(engine, generations, tiny.tokenizer, at_once=at_once) == alone
        order = list(range(len(generations)))
        random.Random(pages).shuffle(order)
        assert answers_of(engine, generations, tiny.tokenizer, at_once=32, order=order) == alone
        if pages == 200:
            whole_chunks = sum(len(generation.prompt) - 1 for generation in generations) // CHUNK
            again = sum(prefilled(engine, 0, plain(generation.prompt)) for generation in generations)
            assert again // CHUNK > 0.7 * whole_chunks


def test_whole_chunks_before_the_last_token_are_reused_in_any_slot(tiny: Any) -> None:
    engine = tiny.engine(prefix_tokens=20 * CHUNK)
    prompt = tuple(range(100))
    assert prefilled(engine, 0, plain(prompt)) == 0
    assert prefilled(engine, 5, plain(prompt)) == 96
    # Position 96 belongs to the next chunk, and a prompt's last token is left to decoding.
    assert prefilled(engine, 1, plain(prompt[:96])) == 64
    assert prefilled(engine, 1, plain(prompt[:97])) == 96
    assert prefilled(engine, 1, plain((*prompt[:40], 999, *prompt[41:]))) == 32
    assert prefilled(engine, 1, plain((999, *prompt[1:]))) == 0


def test_two_prompts_on_their_way_share_at_once(tiny: Any) -> None:
    engine, prompt = tiny.engine(prefix_tokens=20 * CHUNK), tuple(range(100))
    engine.open(0, plain(prompt))
    engine.open(1, plain((*prompt, 7, 7)))
    assert not engine.prefill(0)
    assert not engine.prefill(1)
    assert (engine.reused(0), engine.reused(1)) == (0, 32)
    # Slot 1 was one chunk ahead: slot 0 takes that over.
    engine.prefill(0)
    assert engine.reused(0) == 32


def test_the_page_used_longest_ago_goes_first(tiny: Any) -> None:
    engine = tiny.engine(prefix_tokens=4 * CHUNK)
    one, two, three = (tuple(range(start, start + 65)) for start in (0, 100, 200))
    assert [prefilled(engine, 0, plain(prompt)) for prompt in (one, two, one)] == [0, 0, 64]
    assert prefilled(engine, 0, plain(three)) == 0
    assert prefilled(engine, 0, plain(one)) == 64
    assert prefilled(engine, 0, plain(two)) == 0


def test_a_scored_prompt_neither_takes_nor_gives(tiny: Any) -> None:
    engine = tiny.engine(prefix_tokens=20 * CHUNK)
    prompt = tuple(range(100))
    scored = SlotSpec(prompt, Sampling(), 0, frozenset(), prompt_logprobs=0)
    assert prefilled(engine, 0, scored) == 0
    assert prefilled(engine, 0, plain(prompt)) == 0
    assert prefilled(engine, 0, scored) == 0


def test_without_pages_nothing_is_kept(tiny: Any) -> None:
    engine = tiny.engine(prefix_tokens=CHUNK - 1)
    assert [prefilled(engine, 0, plain(tuple(range(100)))) for _ in range(2)] == [0, 0]
