from __future__ import annotations

import numpy as np
import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.models.presets import train_tokenizer
from tunix_rt.models.tokenizer import render_example
from tunix_rt.trainer.engine.data import BatchStream, Example, count_steps, lay_out, row_length, tokenize

PAIRS = [("a b c", "d e"), ("a", "b c d e f"), ("a b", "c")]


def words(prompt: str, completion: str) -> tuple[list[int], list[int]]:
    before, after = ([ord(word) for word in text.split()] for text in (prompt, completion))
    return before + after, [0] * len(before) + [1] * len(after)


EXAMPLES = [words(*pair) for pair in PAIRS]


def test_only_the_completion_and_its_end_are_targets() -> None:
    tokenizer = train_tokenizer(["What is 2 + 3?", "<reasoning>\n2 + 3 = 5\n</reasoning>\n<answer>5</answer>"] * 3, 300)
    completion = "<reasoning>\n2 + 3 = 5\n</reasoning>\n<answer>5</answer>"
    rendered = render_example(tokenizer, "What is 2 + 3?", completion)
    found = tokenize([rendered], max_length=500, overlong="error").examples[0]
    targets = found.tokens[found.is_target].tolist()
    assert tokenizer.decode(targets[:-1]) == completion
    assert targets[-1] == tokenizer.eos_token_ids[0]
    assert "What is 2 + 3?" in tokenizer.decode(found.tokens[~found.is_target].tolist())


def test_overlong_examples_are_dropped_and_counted() -> None:
    found = tokenize(EXAMPLES, max_length=5, overlong="drop")
    assert [example.length for example in found.examples] == [5, 3]
    assert (found.dropped, found.truncated, found.longest, found.tokens) == (1, 0, 6, 8)


def test_truncation_cuts_the_end_and_drops_what_has_no_target_left() -> None:
    found = tokenize(EXAMPLES, max_length=3, overlong="truncate")
    assert [example.tokens.tolist() for example in found.examples] == [[97, 98, 99], [97, 98, 99]]
    assert [example.is_target.tolist() for example in found.examples] == [[False, True, True], [False, False, True]]
    assert (found.dropped, found.truncated) == (1, 1)


def test_overlong_error_names_the_field() -> None:
    with pytest.raises(InvalidInput) as caught:
        tokenize(EXAMPLES, max_length=5, overlong="error")
    assert caught.value.violations[0].field == "hyperparameters.max_seq_length"
    assert "1 of 3" in caught.value.violations[0].description


def test_a_budget_that_nothing_fits_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no example"):
        tokenize(EXAMPLES, max_length=2, overlong="drop")


def test_a_packed_row_restarts_positions_and_never_predicts_across_examples() -> None:
    first = Example(np.asarray([5, 6, 7], np.int32), np.asarray([False, True, True]))
    second = Example(np.asarray([8, 9], np.int32), np.asarray([True, True]))
    batch = lay_out([[first, second]], accumulation=1, length=7)
    assert batch.tokens.tolist() == [[[5, 6, 7, 8, 9, 0, 0]]]
    assert batch.positions.tolist() == [[[0, 1, 2, 0, 1, 0, 0]]]
    assert batch.segment_ids.tolist() == [[[1, 1, 1, 2, 2, 0, 0]]]
    assert batch.targets.tolist() == [[[6, 7, 0, 9, 0, 0, 0]]]
    assert batch.weights.tolist() == [[[1, 1, 0, 1, 0, 0, 0]]]
    assert batch.real_tokens == 5


@pytest.mark.parametrize(
    ("longest", "budget", "packing", "expected"), [(74, 512, False, 80), (74, 76, False, 76), (9, 64, True, 64)]
)
def test_rows_are_no_longer_than_they_need_to_be(longest: int, budget: int, packing: bool, expected: int) -> None:
    assert row_length(longest, budget, packing=packing) == expected


def stream(
    examples: list[Example], *, packing: bool, seed: int = 1, rows: int = 2, accumulation: int = 1
) -> BatchStream:
    return BatchStream(examples, rows=rows, accumulation=accumulation, length=24, packing=packing, seed=seed)


def seen(batches: BatchStream, count: int) -> list[tuple[int, ...]]:
    """The examples of so many batches, in order, read back from the rows."""
    found = []
    for _ in range(count):
        batch = next(batches)
        for tokens, segments in zip(batch.tokens.reshape(-1, 24), batch.segment_ids.reshape(-1, 24), strict=True):
            found += [tuple(tokens[segments == number].tolist()) for number in range(1, segments.max() + 1)]
    return found


def test_every_example_comes_once_per_epoch_in_a_new_order(examples: list[Example]) -> None:
    found = seen(stream(examples, packing=False), 12)
    every = sorted(tuple(example.tokens.tolist()) for example in examples)
    assert sorted(found[:12]) == every
    assert sorted(found[12:]) == every
    assert found[:12] != found[12:]


def test_packing_neither_skips_nor_repeats_an_example(examples: list[Example]) -> None:
    batches = stream(examples, packing=True)
    found: list[tuple[int, ...]] = []
    while len(found) < 36:
        found += seen(batches, 1)
    assert batches.examples_seen == len(found)
    # The stream's order is that of single rows; a packed batch holds the same examples in another order.
    assert sorted(found) == sorted(seen(stream(examples, packing=False, rows=1), len(found)))


def test_packing_fits_more_examples_and_never_overfills(examples: list[Example]) -> None:
    batch = next(stream(examples, packing=True))
    assert batch.segment_ids.shape == (1, 2, 24)
    assert batch.real_tokens >= 2 * 24 - 2 * 11
    assert batch.segment_ids.max() >= 2


@pytest.mark.parametrize("packing", [False, True])
def test_a_stream_goes_on_exactly_where_another_stood(examples: list[Example], packing: bool) -> None:
    whole = stream(examples, packing=packing)
    seen(whole, 5)
    position = whole.position()
    resumed = stream(examples, packing=packing)
    resumed.seek(position)
    assert resumed.examples_seen == whole.examples_seen
    assert seen(resumed, 7) == seen(whole, 7)


def test_another_seed_is_another_order(examples: list[Example]) -> None:
    assert seen(stream(examples, packing=False), 6) == seen(stream(examples, packing=False), 6)
    assert seen(stream(examples, packing=False), 6) != seen(stream(examples, packing=False, seed=2), 6)


def test_steps_of_epochs_count_every_example(examples: list[Example]) -> None:
    assert count_steps(stream(examples, packing=False), 12, 1) == 6
    assert count_steps(stream(examples, packing=False, accumulation=2), 12, 2.5) == 8
    assert count_steps(stream(examples, packing=False, rows=64), 12, 0.1) == 1
    packed = stream(examples, packing=True)
    steps = count_steps(packed, 12, 2)
    assert packed.examples_seen == 0
    assert len(seen(packed, steps - 1)) < 24 <= len(seen(stream(examples, packing=True), steps))
