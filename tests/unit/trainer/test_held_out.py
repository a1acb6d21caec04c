from __future__ import annotations

import numpy as np
import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.trainer.engine.data import Batch, Example, pack
from tunix_rt.trainer.engine.loss import LossSums
from tunix_rt.trainer.engine.preparation import held_out_batches, split
from tunix_rt.trainer.engine.step import HeldOut


def contents(examples: tuple[Example, ...]) -> list[tuple[int, ...]]:
    return [tuple(example.tokens.tolist()) for example in examples]


def many(count: int, *, seed: int = 0) -> list[Example]:
    source = np.random.default_rng(seed)
    lengths = source.integers(4, 20, count)
    return [Example(source.integers(0, 1000, n).astype(np.int32), np.arange(n) >= 2) for n in lengths]


def test_every_example_is_on_one_side_and_the_order_stays() -> None:
    examples = many(200)
    parts = split(examples, 0.05, seed=3)
    assert len(parts.held_out) == 10
    held_out = set(contents(parts.held_out))
    everything = contents(tuple(examples))
    assert contents(parts.training) == [tokens for tokens in everything if tokens not in held_out]
    assert contents(parts.held_out) == [tokens for tokens in everything if tokens in held_out]


def test_the_draw_follows_from_seed_and_content_alone() -> None:
    examples = many(200)
    chosen = set(contents(split(examples, 0.1, seed=3).held_out))
    assert set(contents(split(examples[::-1], 0.1, seed=3).held_out)) == chosen
    assert set(contents(split(examples, 0.1, seed=4).held_out)) != chosen
    # A larger share of the same data holds out the same examples, and more.
    assert set(contents(split(examples, 0.2, seed=3).held_out)) > chosen


def test_at_least_one_is_held_out_and_at_least_one_is_left(examples: list[Example]) -> None:
    assert len(split(examples[:2], 0.01, seed=0).held_out) == 1
    assert len(split(examples[:2], 0.5, seed=0).training) == 1


def test_copies_of_a_held_out_example_are_not_trained_on() -> None:
    examples = many(20) * 5
    for seed in range(20):
        parts = split(examples, 0.05, seed=seed)
        assert not set(contents(parts.held_out)) & set(contents(parts.training))
        assert len(parts.held_out) == 5


def test_copies_of_one_example_cannot_be_split(examples: list[Example]) -> None:
    with pytest.raises(InvalidInput) as caught:
        split([examples[0]] * 9, 0.5, seed=0)
    assert caught.value.violations[0].field == "hyperparameters.eval_steps"


def test_packing_a_list_loses_nothing_and_overfills_nothing() -> None:
    examples = many(500)
    rows = pack(examples, 24)
    assert sorted(id(example) for row in rows for example in row) == sorted(map(id, examples))
    assert all(sum(example.length for example in row) <= 24 for row in rows)
    assert len(rows) <= 1.2 * sum(example.length for example in examples) / 24


def test_held_out_batches_hold_every_target_once(examples: list[Example]) -> None:
    batches = held_out_batches(examples, rows=3, length=16)
    assert {batch.tokens.shape for batch in batches} == {(1, 3, 16)}
    targets = sum(int(example.is_target[1:].sum()) for example in examples)
    assert sum(batch.target_tokens for batch in batches) == targets
    assert sum(batch.real_tokens for batch in batches) == sum(example.length for example in examples)


def test_the_mean_is_over_tokens_not_over_batches(examples: list[Example]) -> None:
    batches = held_out_batches(examples[:2], rows=1, length=16)
    sums = iter([(6.0, 1.0, 2.0), (8.0, 6.0, 8.0)])

    def step(parameters: object, frozen: object, batch: Batch) -> LossSums:
        return LossSums(*(np.float32(value) for value in next(sums)))  # type: ignore[arg-type]

    found = HeldOut(step, [batches[0], batches[0]]).measure(None, None)
    assert (found.loss, found.token_accuracy) == (1.4, 0.7)
