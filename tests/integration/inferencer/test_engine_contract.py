"""What every engine promises, asked of the arithmetic one and of the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.fixtures.fake_engine import FakeEngine

from tunix_rt.inferencer.engine.interface import AdapterFactors, Engine, SlotSpec
from tunix_rt.inferencer.generation import ChosenToken, Sampling

CAPACITY = 64


@pytest.fixture(params=["arithmetic", "jax"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "arithmetic":
        return FakeEngine(slots=4, capacity=CAPACITY, chunk=8, steps=4, adapters=2)
    tiny: Any = request.getfixturevalue("tiny")
    real: Engine = tiny.engine(slots=4, capacity=CAPACITY, chunk=8, steps=4, adapters=2)
    return real


def spec(prompt: tuple[int, ...], max_tokens: int, stop_ids: frozenset[int] = frozenset(), top: int = -1) -> SlotSpec:
    return SlotSpec(prompt, Sampling(), max_tokens, stop_ids, top)


def complete(engine: Engine, slot: int, what: SlotSpec) -> list[int]:
    engine.open(slot, what)
    while not engine.prefill(slot):
        pass
    found: list[int] = []
    while True:
        outputs = [output for output in engine.decode(leave_early=False) if output.slot == slot and output.tokens]
        if not outputs:
            engine.close(slot)
            return found
        found += [token.token_id for token in outputs[0].tokens]


def test_a_slot_stops_at_its_limit_and_again_gives_the_same(engine: Engine) -> None:
    first = complete(engine, 0, spec((5, 6, 7), 11))
    assert len(first) == 11
    assert complete(engine, 3, spec((5, 6, 7), 11)) == first
    assert complete(engine, 0, spec(tuple(range(30)), 3)) != first[:3]
    assert complete(engine, 0, spec((5, 6, 7), 11)) == first


def test_a_slot_stops_behind_its_stop_token(engine: Engine) -> None:
    free = complete(engine, 1, spec((9, 1), 20))
    stop = free[6]
    assert complete(engine, 1, spec((9, 1), 20, frozenset({stop}))) == free[: free.index(stop) + 1]


def test_leaving_early_ends_the_dispatch_with_the_first_slot_that_stops(engine: Engine) -> None:
    engine.open(0, spec((1,), 1))
    engine.open(1, spec((2,), 30))
    for slot in (0, 1):
        while not engine.prefill(slot):
            pass
    lengths = {output.slot: len(output.tokens) for output in engine.decode(leave_early=True)}
    assert lengths == {0: 1, 1: 1}
    lengths = {output.slot: len(output.tokens) for output in engine.decode(leave_early=False)}
    assert lengths == {1: 4}


def test_one_step_gives_each_slot_one_token_of_the_same_answer(engine: Engine) -> None:
    whole = complete(engine, 0, spec((9, 1), 20))
    engine.open(0, spec((9, 1), 20))
    engine.open(1, spec((2,), 20))
    for slot in (0, 1):
        while not engine.prefill(slot):
            pass
    outputs = [engine.decode(leave_early=False, one_step=one_step) for one_step in (True, True, False)]
    found = [[token.token_id for o in output if o.slot == 0 for token in o.tokens] for output in outputs]
    assert [len(tokens) for tokens in found[:2]] == [1, 1]
    assert [*found[0], *found[1], *found[2]] == whole[: 2 + len(found[2])]
    assert len(found[2]) > 1


def test_runners_up_come_on_demand(engine: Engine) -> None:
    for slot, top in enumerate((-1, 0, 5)):
        engine.open(slot, spec((3, 4), 2, top=top))
        while not engine.prefill(slot):
            pass
    outputs = {output.slot: output.tokens for output in engine.decode(leave_early=False)}
    assert [len(outputs[slot][0].top) for slot in range(3)] == [0, 0, 5]
    best = outputs[2][0].top
    assert best[0] == (outputs[2][0].token_id, pytest.approx(outputs[2][0].logprob))
    assert list(best) == sorted(best, key=lambda pair: -pair[1])


def test_what_does_not_fit_is_refused(engine: Engine) -> None:
    engine.open(0, spec((1,), 1))
    refusals: list[Callable[[], None]] = [
        lambda: engine.open(0, spec((1,), 1)),
        lambda: engine.open(4, spec((1,), 1)),
        lambda: engine.open(1, spec((), 1)),
        lambda: engine.open(1, spec((1,) * 60, 5)),
        lambda: engine.open(1, spec((1,), 0)),
    ]
    for refused in refusals:
        with pytest.raises(ValueError):
            refused()
    assert len(complete(engine, 1, spec((1,) * 60, 4))) == 4


def scored(engine: Engine, slot: int, prompt: tuple[int, ...], top: int = 0) -> list[ChosenToken]:
    engine.open(slot, SlotSpec(prompt, Sampling(), 0, frozenset(), prompt_logprobs=top))
    while not engine.prefill(slot):
        pass
    found = list(engine.prompt_scores(slot))
    engine.close(slot)
    return found


def test_a_prompts_tokens_after_the_first_are_scored_and_nothing_is_decoded(engine: Engine) -> None:
    prompt = tuple(7 * i % 90 for i in range(CAPACITY))
    found = scored(engine, 2, prompt, top=3)
    assert [token.token_id for token in found] == list(prompt[1:])
    for token in found:
        values = [value for _, value in token.top]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert token.logprob <= values[0]
        assert dict(token.top).get(token.token_id, token.logprob) == token.logprob
    assert [token.top for token in scored(engine, 0, prompt)] == [()] * (CAPACITY - 1)
    assert scored(engine, 0, prompt[:1]) == []
    assert list(engine.decode(leave_early=False)) == []


def test_a_score_depends_on_what_came_before_alone(engine: Engine) -> None:
    prompt = tuple(5 * i % 90 for i in range(30))
    whole = scored(engine, 1, prompt)
    # Other slots decode, and the slot has held something else.
    engine.open(0, spec((1, 2, 3), 40))
    while not engine.prefill(0):
        pass
    engine.decode(leave_early=False)
    scored(engine, 3, tuple(range(40)))
    assert scored(engine, 3, prompt) == whole
    assert scored(engine, 3, prompt[:20]) == whole[:19]


def test_scoring_a_prompt_does_not_end_its_answer(engine: Engine) -> None:
    plain = complete(engine, 0, spec((5, 6, 7), 6))
    engine.open(1, SlotSpec((5, 6, 7), Sampling(), 6, frozenset(), prompt_logprobs=1))
    while not engine.prefill(1):
        pass
    assert [token.token_id for token in engine.prompt_scores(1)] == [6, 7]
    answer = [t.token_id for _ in range(2) for output in engine.decode(leave_early=False) for t in output.tokens]
    assert answer == plain


def test_scores_that_nobody_asked_for_are_refused(engine: Engine) -> None:
    engine.open(0, spec((1, 2), 1))
    while not engine.prefill(0):
        pass
    engine.open(1, SlotSpec(tuple(range(30)), Sampling(), 0, frozenset(), prompt_logprobs=0))
    for slot in (0, 1):  # not asked for; not prefilled
        with pytest.raises(ValueError):
            engine.prompt_scores(slot)
    with pytest.raises(ValueError):
        engine.open(2, SlotSpec((1,) * (CAPACITY + 1), Sampling(), 0, frozenset(), prompt_logprobs=0))


def factors(engine: Engine, rank: int, seed: int = 0) -> AdapterFactors:
    """An adapter of the first linear layer, where the engine has any."""
    if isinstance(engine, FakeEngine):
        return AdapterFactors(rank, {})
    layers, hidden = engine.config.num_hidden_layers, engine.config.hidden_size  # type: ignore[attr-defined]
    noise = np.random.default_rng(seed)
    a, b = (noise.normal(size=shape).astype(np.float32) for shape in ((layers, hidden, rank), (layers, rank, hidden)))
    return AdapterFactors(rank, {"blocks.attention.q": (a, b)})


def adapted(adapter: str, prompt: tuple[int, ...] = (5, 6, 7), scores: int = -1) -> SlotSpec:
    return SlotSpec(prompt, Sampling(), 6, frozenset(), prompt_logprobs=scores, adapter=adapter)


def test_an_adapter_changes_the_slots_that_name_it_and_no_other(engine: Engine) -> None:
    plain, plain_scores = complete(engine, 0, adapted("")), scored(engine, 0, (5, 6, 7))
    put = engine.prepare_adapter(1, "x", factors(engine, 3))
    with pytest.raises(ValueError):
        engine.open(0, adapted("x"))
    put()
    changed = complete(engine, 0, adapted("x"))
    assert changed != plain
    engine.prepare_adapter(0, "y", factors(engine, 8, seed=1))()
    assert complete(engine, 3, adapted("x")) == changed
    assert complete(engine, 2, adapted("y")) not in (changed, plain)
    specs = {0: adapted("x"), 1: adapted(""), 2: adapted("y", scores=0), 3: adapted("x")}
    for slot, what in specs.items():
        engine.open(slot, what)
        while not engine.prefill(slot):
            pass
    assert [token.token_id for token in engine.prompt_scores(2)] == [6, 7]
    assert [token.logprob for token in engine.prompt_scores(2)] != [token.logprob for token in plain_scores]
    outputs = {output.slot: [token.token_id for token in output.tokens] for output in engine.decode(leave_early=False)}
    assert outputs.keys() == specs.keys()
    assert outputs[0] == outputs[3] == changed[:4]
    assert outputs[1] == plain[:4]
    for slot in specs:
        engine.close(slot)
    assert scored(engine, 0, (5, 6, 7)) == plain_scores


def test_an_adapter_leaves_its_place_to_another(engine: Engine) -> None:
    first = factors(engine, 3)
    engine.prepare_adapter(0, "x", first)()
    changed = complete(engine, 0, adapted("x"))
    engine.prepare_adapter(0, "y", factors(engine, 2, seed=1))()
    with pytest.raises(ValueError):
        engine.open(0, adapted("x"))
    assert complete(engine, 0, adapted("y")) != changed
    engine.prepare_adapter(1, "x", first)()
    assert complete(engine, 0, adapted("x")) == changed
    assert engine.adapter_bytes > 0


def test_an_adapter_that_does_not_fit_is_refused(engine: Engine) -> None:
    for place, rank in ((2, 1), (-1, 1), (0, engine.adapter_rank + 1)):
        with pytest.raises(ValueError):
            engine.prepare_adapter(place, "x", factors(engine, rank))
