"""Continuous batching over an engine that can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.fixtures.fake_engine import FakeEngine

from tunix_rt.errors import Exhausted, Transient
from tunix_rt.inferencer.generation import Failure, FinishReason, GenerationRequest, Sampling
from tunix_rt.inferencer.scheduler import Scheduler, Ticket
from tunix_rt.inferencer.text import Transcript

Recorders = Callable[[], Any]


def send(scheduler: Scheduler, tokenizer: Any, sink: Any, prompt: str | tuple[int, ...], **options: Any) -> Ticket:
    ids = tuple(tokenizer.encode(prompt)) if isinstance(prompt, str) else prompt
    generation = GenerationRequest(prompt=ids, **options)
    return scheduler.submit(generation, Transcript(tokenizer.detokenizer(), generation.stop), sink)


def drain(scheduler: Scheduler, rounds: int = 1000) -> None:
    for _ in range(rounds):
        if not scheduler.has_work:
            return
        scheduler.tick()
    raise AssertionError("the scheduler never came to rest")


def test_tokens_are_those_computed_by_hand(tokenizer: Any, recorder: Recorders) -> None:
    scheduler, sink = Scheduler(FakeEngine()), recorder()
    send(scheduler, tokenizer, sink, (10, 20, 30), max_new_tokens=5)
    drain(scheduler)
    # sum 60, positions 3..7
    assert sink.tokens == [63, 64, 65, 66, 67]
    assert sink.deltas[-1].finish is FinishReason.LENGTH
    assert sink.text == "_`abc"


def test_every_request_gets_the_same_tokens_alone_and_in_a_crowd(tokenizer: Any, recorder: Recorders) -> None:
    prompts = [tuple(range(1, 2 + n % 30)) for n in range(40)]
    alone = []
    for prompt in prompts:
        scheduler, sink = Scheduler(FakeEngine()), recorder()
        send(scheduler, tokenizer, sink, prompt, max_new_tokens=1 + len(prompt) % 7)
        drain(scheduler)
        alone.append(sink.tokens)
    scheduler, sinks = Scheduler(FakeEngine()), [recorder() for _ in prompts]
    for prompt, sink in zip(prompts, sinks, strict=True):
        send(scheduler, tokenizer, sink, prompt, max_new_tokens=1 + len(prompt) % 7)
    drain(scheduler)
    assert [sink.tokens for sink in sinks] == alone


def test_a_first_token_does_not_wait_for_the_rest_of_its_dispatch(tokenizer: Any, recorder: Recorders) -> None:
    scheduler, early, late = Scheduler(FakeEngine(steps=4)), recorder(), recorder()
    send(scheduler, tokenizer, early, (10,), max_new_tokens=30)
    scheduler.tick()
    assert len(early.tokens) == 1
    scheduler.tick()
    assert len(early.tokens) == 5
    send(scheduler, tokenizer, late, (20,), max_new_tokens=30)
    scheduler.tick()
    assert (len(early.tokens), len(late.tokens)) == (6, 1)
    scheduler.tick()
    assert (len(early.tokens), len(late.tokens)) == (10, 5)


def test_a_stop_token_is_the_last_token_and_no_text(tokenizer: Any, recorder: Recorders) -> None:
    scheduler, sink = Scheduler(FakeEngine()), recorder()
    send(scheduler, tokenizer, sink, (60,), max_new_tokens=20, stop_token_ids=frozenset({64}))
    drain(scheduler)
    assert sink.tokens == [61, 62, 63, 64]
    assert sink.text == "]^_"
    assert sink.deltas[-1].finish is FinishReason.STOP


def test_a_stop_string_ends_the_generation_and_frees_the_slot(tokenizer: Any, recorder: Recorders) -> None:
    scheduler, sink = Scheduler(FakeEngine(slots=1, steps=4)), recorder()
    send(scheduler, tokenizer, sink, (60,), max_new_tokens=50, stop=("^_`",))
    drain(scheduler)
    assert sink.text == "]"
    assert sink.tokens == [61, 62, 63, 64]
    assert sink.deltas[-1].finish is FinishReason.STOP
    assert scheduler.busy_slots == 0


def test_the_context_limit_ends_with_length(tokenizer: Any, recorder: Recorders) -> None:
    scheduler, sink = Scheduler(FakeEngine(capacity=16)), recorder()
    send(scheduler, tokenizer, sink, tuple(range(13)), max_new_tokens=100)
    drain(scheduler)
    assert len(sink.tokens) == 3
    assert sink.deltas[-1].finish is FinishReason.LENGTH


def test_a_finished_slot_is_refilled_while_others_decode(tokenizer: Any, recorder: Recorders) -> None:
    scheduler = Scheduler(FakeEngine(slots=2, steps=1))
    long, short, next_one = recorder(), recorder(), recorder()
    send(scheduler, tokenizer, long, (1,), max_new_tokens=40)
    send(scheduler, tokenizer, short, (2,), max_new_tokens=2)
    send(scheduler, tokenizer, next_one, (3,), max_new_tokens=2)
    for _ in range(6):
        scheduler.tick()
    assert next_one.deltas[-1].finish is FinishReason.LENGTH
    assert long.deltas[-1].finish is None


def test_long_prompts_do_not_stall_decoding(tokenizer: Any, recorder: Recorders) -> None:
    scheduler = Scheduler(FakeEngine(slots=2, steps=1, chunk=1), chunks_per_tick=2)
    first, second = recorder(), recorder()
    send(scheduler, tokenizer, first, (1,), max_new_tokens=30)
    scheduler.tick()
    send(scheduler, tokenizer, second, tuple(range(20)), max_new_tokens=1)
    before = len(first.tokens)
    for _ in range(10):  # 20 prompt tokens, 2 chunks of 1 per round
        assert not second.tokens
        scheduler.tick()
    assert len(first.tokens) == before + 10
    assert second.tokens == [(sum(range(20)) + 20) % 97]


def test_a_full_queue_refuses_with_exhausted(tokenizer: Any, recorder: Recorders) -> None:
    scheduler = Scheduler(FakeEngine(slots=1), queue_limit=2)
    for _ in range(2):
        send(scheduler, tokenizer, recorder(), (1,), max_new_tokens=1)
    with pytest.raises(Exhausted) as refused:
        send(scheduler, tokenizer, recorder(), (1,), max_new_tokens=1)
    assert refused.value.retry_after_seconds > 0
    drain(scheduler)
    send(scheduler, tokenizer, recorder(), (1,), max_new_tokens=1)


def test_cancelling_frees_a_waiting_place_and_a_running_slot(tokenizer: Any, recorder: Recorders) -> None:
    scheduler = Scheduler(FakeEngine(slots=1, steps=1))
    running, waiting, last = recorder(), recorder(), recorder()
    one = send(scheduler, tokenizer, running, (1,), max_new_tokens=50)
    two = send(scheduler, tokenizer, waiting, (2,), max_new_tokens=50)
    send(scheduler, tokenizer, last, (3,), max_new_tokens=1)
    scheduler.tick()
    one.cancel()
    two.cancel()
    scheduler.tick()
    assert running.deltas[-1].finish is FinishReason.CANCELLED
    assert waiting.deltas[-1].finish is FinishReason.CANCELLED
    assert waiting.tokens == []
    assert last.tokens == [4]
    assert not scheduler.has_work


def test_callers_take_turns(tokenizer: Any, recorder: Recorders) -> None:
    scheduler = Scheduler(FakeEngine(slots=1, steps=1))
    order: list[str] = []

    def finished(name: str) -> Callable[[Any], None]:
        return lambda event: order.append(name) if event.finish else None

    for i in range(3):
        send(scheduler, tokenizer, finished(f"many{i}"), (1,), max_new_tokens=1, caller="many")
    send(scheduler, tokenizer, finished("one"), (1,), max_new_tokens=1, caller="one")
    drain(scheduler)
    assert order == ["many0", "one", "many1", "many2"]


def test_a_failed_engine_ends_every_request_and_refuses_new_ones(tokenizer: Any, recorder: Recorders) -> None:
    scheduler = Scheduler(FakeEngine(slots=1))
    running, waiting = recorder(), recorder()
    send(scheduler, tokenizer, running, (1,), max_new_tokens=50)
    send(scheduler, tokenizer, waiting, (2,), max_new_tokens=50)
    scheduler.tick()
    scheduler.fail(Transient("broken"))
    for sink in (running, waiting):
        assert isinstance(sink.events[-1], Failure)
    assert not scheduler.has_work
    with pytest.raises(Transient):
        send(scheduler, tokenizer, recorder(), (1,))


def test_timings_are_measured_from_acceptance(tokenizer: Any, recorder: Recorders) -> None:
    now = [100.0]
    scheduler, sink = Scheduler(FakeEngine(steps=2), clock=lambda: now[0]), recorder()
    send(scheduler, tokenizer, sink, (1,), max_new_tokens=3)
    now[0] = 103.0
    scheduler.tick()
    now[0] = 107.0
    scheduler.tick()
    timings = sink.deltas[-1].timings
    assert (timings.queue, timings.first_token, timings.total) == (3.0, 3.0, 7.0)


def test_the_seed_changes_sampled_tokens_only(tokenizer: Any, recorder: Recorders) -> None:
    scheduler = Scheduler(FakeEngine())
    greedy, sampled = recorder(), recorder()
    send(scheduler, tokenizer, greedy, (1,), max_new_tokens=2, sampling=Sampling(seed=5))
    send(scheduler, tokenizer, sampled, (1,), max_new_tokens=2, sampling=Sampling(seed=5, temperature=1.0))
    drain(scheduler)
    assert greedy.tokens == [2, 3]
    assert sampled.tokens == [7, 8]


def test_requests_that_belong_together_wait_together_or_not_at_all(tokenizer: Any, recorder: Recorders) -> None:
    scheduler, sinks = Scheduler(FakeEngine(slots=1), queue_limit=3), [recorder() for _ in range(3)]

    def together(count: int) -> list[Ticket]:
        generations = [GenerationRequest(prompt=(n,), max_new_tokens=1) for n in range(1, count + 1)]
        return scheduler.submit_all(
            [(g, Transcript(tokenizer.detokenizer()), sink) for g, sink in zip(generations, sinks, strict=False)]
        )

    send(scheduler, tokenizer, recorder(), (1,), max_new_tokens=1)
    with pytest.raises(Exhausted):
        together(3)
    assert scheduler.waiting == 1
    together(2)
    drain(scheduler)
    assert [sink.tokens for sink in sinks] == [[2], [3], []]


def test_scores_are_those_computed_by_hand_and_end_the_request(tokenizer: Any, recorder: Recorders) -> None:
    scheduler, sink = Scheduler(FakeEngine()), recorder()
    send(scheduler, tokenizer, sink, (10, 12, 11), max_new_tokens=0, prompt_logprobs=2)
    drain(scheduler)
    (delta,) = sink.deltas
    # 10 -> 12 is two up, 12 -> 11 is 96 up modulo 97; the likeliest is the same token again.
    assert [(token.token_id, token.logprob, token.top) for token in delta.prompt] == [
        (12, -2.0, ((10, 0.0), (11, -1.0))),
        (11, -96.0, ((12, 0.0), (13, -1.0))),
    ]
    assert (delta.finish, delta.text, delta.tokens) == (FinishReason.LENGTH, "", ())
    assert delta.timings.first_token is None
    assert scheduler.busy_slots == 0


def test_scores_of_a_prompt_come_before_its_answer(tokenizer: Any, recorder: Recorders) -> None:
    scheduler, sink = Scheduler(FakeEngine()), recorder()
    send(scheduler, tokenizer, sink, (10, 12), max_new_tokens=2, prompt_logprobs=0)
    drain(scheduler)
    assert [token.token_id for token in sink.deltas[0].prompt] == [12]
    assert sink.tokens == [24, 25]
    assert all(not delta.prompt for delta in sink.deltas[1:])


def test_scoring_long_texts_does_not_stall_decoding(tokenizer: Any, recorder: Recorders) -> None:
    # A chunk with scores counts for two: 20 tokens are 20 chunks of 1, two of them a round.
    scheduler = Scheduler(FakeEngine(slots=2, steps=1, chunk=1), chunks_per_tick=4)
    decoding, scored = recorder(), recorder()
    send(scheduler, tokenizer, decoding, (1,), max_new_tokens=30)
    scheduler.tick()
    send(scheduler, tokenizer, scored, tuple(range(20)), max_new_tokens=0, prompt_logprobs=0)
    before = len(decoding.tokens)
    for _ in range(10):
        assert not scored.deltas
        scheduler.tick()
    assert len(decoding.tokens) == before + 10
    assert len(scored.deltas[0].prompt) == 19


def test_a_cancelled_score_frees_its_slot(tokenizer: Any, recorder: Recorders) -> None:
    scheduler = Scheduler(FakeEngine(slots=2, steps=1, chunk=1), chunks_per_tick=2)
    decoding, scored = recorder(), recorder()
    send(scheduler, tokenizer, decoding, (1,), max_new_tokens=30)
    scheduler.tick()
    ticket = send(scheduler, tokenizer, scored, tuple(range(20)), max_new_tokens=0, prompt_logprobs=0)
    scheduler.tick()
    ticket.cancel()
    scheduler.tick()
    assert scored.deltas[-1].finish is FinishReason.CANCELLED
    assert scheduler.busy_slots == 1
