"""Near duplicates: exact similarities by hand, sketches against exact similarities."""

from __future__ import annotations

import hashlib
import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunix_rt.traces.near_duplicates import (
    THRESHOLD,
    Match,
    Neighbour,
    earlier_neighbours,
    estimated_jaccard,
    jaccard,
    matches,
    shingles,
    signature,
)

NINE = "one two three four five six seven eight nine"
WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=14).map(" ".join)


def test_similarity_is_that_of_the_sets_of_five_word_runs() -> None:
    # Nine words are 5 runs; with a tenth at the end there are 6, of which 5 are shared.
    assert len(shingles(NINE)) == 5
    assert jaccard(shingles(NINE), shingles(NINE + " ten")) == 5 / 6
    # The last word replaced changes the last run: 4 shared of 6.
    assert jaccard(shingles(NINE), shingles(NINE.replace("nine", "ten"))) == 4 / 6
    assert jaccard(shingles("What is 7 + 5?"), shingles("what is 7 + 5")) == 1.0
    assert jaccard(shingles("What is 7 + 5?"), shingles("What is 7 - 5?")) == 0.0
    assert jaccard(shingles("?"), shingles("!")) == 1.0


def test_each_near_duplicate_names_the_earlier_prompt_it_resembles() -> None:
    prompts = [NINE, "Something else.", NINE + " ten", NINE.upper() + "!", "something ELSE", NINE[4:]]
    assert earlier_neighbours(prompts) == {
        2: Neighbour(0, 5 / 6),
        3: Neighbour(0, 1.0),
        4: Neighbour(1, 1.0),
        5: Neighbour(0, 4 / 5),
    }


def test_a_prompt_that_only_changes_its_numbers_is_no_near_duplicate() -> None:
    assert earlier_neighbours([f"Tom has {n} pears and buys {m} more." for n in range(9) for m in range(9)]) == {}


def test_a_prompt_meets_the_queries_it_resembles() -> None:
    found = list(matches(["no", NINE + " ten", "Short one?"], ["short one", NINE, "unlike"]))
    assert found == [Match(1, 1, 5 / 6), Match(2, 0, 1.0)]


SETS = st.sets(st.integers(0, 60), min_size=1, max_size=40)


@given(SETS, SETS, st.integers(0, 3))
def test_a_sketch_estimates_the_jaccard_similarity(a: set[int], b: set[int], seed: int) -> None:
    exact = len(a & b) / len(a | b)
    estimated = estimated_jaccard(signature(map(str, a), seed), signature(map(str, b), seed))
    # Hoeffding: 100 minima are off by 0.3 with probability 2 exp(-2 * 100 * 0.09) = 3e-8.
    assert abs(estimated - exact) <= 0.3
    assert (estimated == 1.0) == (a == b) or exact > 0.8


def test_the_estimate_has_no_bias_and_the_stated_variance() -> None:
    source = random.Random(5)
    errors = []
    for number in range(400):
        shared = {f"{number} {source.random()}" for _ in range(20)}
        a, b = ({f"{number} {source.random()}" for _ in range(10)} | shared for _ in range(2))
        errors.append(estimated_jaccard(signature(a), signature(b)) - 0.5)
    # One estimate has the standard deviation sqrt(0.5 * 0.5 / 100) = 0.05, the mean of 400 has 0.0025.
    assert abs(fmean(errors)) < 4 * 0.0025
    assert 0.04 < fmean(e * e for e in errors) ** 0.5 < 0.06


@given(st.lists(WORDS, max_size=12))
def test_nothing_is_reported_that_is_not_one(prompts: list[str]) -> None:
    sets = [shingles(prompt) for prompt in prompts]
    for position, near in earlier_neighbours(prompts).items():
        assert near.position < position
        assert near.similarity == jaccard(sets[near.position], sets[position]) >= THRESHOLD
    assert all(position in earlier_neighbours(prompts) for position, runs in enumerate(sets) if runs in sets[:position])


def test_what_comparing_all_pairs_finds_is_found() -> None:
    source = random.Random(11)
    words = [f"w{n}" for n in range(300)]
    prompts = []
    for _ in range(150):
        prompt = source.choices(words, k=source.randint(10, 40))
        prompts.append(" ".join(prompt))
        for _ in range(2):
            changed = list(prompt)
            changed[source.choice([0, -1, len(changed) // 2])] = "changed"
            prompts.append(" ".join(changed))
    sets = [shingles(prompt) for prompt in prompts]
    near = {
        later
        for later in range(len(sets))
        if any(jaccard(sets[earlier], sets[later]) >= THRESHOLD for earlier in range(later))
    }
    assert len(near) > 150
    # A pair at exactly 0.8 is missed with probability 0.0004, so all but one or two are found.
    assert len(near - earlier_neighbours(prompts).keys()) <= 2
    assert earlier_neighbours(prompts).keys() <= near


def test_long_prompts_are_sketched_by_a_sample_and_compared_whole() -> None:
    source = random.Random(3)
    long = [f"w{source.randrange(10_000)}" for _ in range(3_000)]
    found = earlier_neighbours([" ".join(long), " ".join(long[:2_900]), " ".join(long[:1_500])])
    assert found == {1: Neighbour(0, pytest.approx(2_896 / 2_996))}


def test_a_sketch_is_the_minima_of_shake_128_whatever_the_process() -> None:
    digests = [hashlib.shake_128(run).digest(400) for run in (b"7 a b", b"7 c d")]
    minima = [min(int.from_bytes(d[at : at + 4], "little") for d in digests) for at in range(0, 400, 4)]
    assert list(signature(["c d", "a b"], seed=7)) == minima
