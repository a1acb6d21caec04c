"""The expected majority of k samples, against brute-force enumeration."""

from __future__ import annotations

import random
import time
from collections import Counter
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.quality.exact_majorities import exact_majority_value
from tunix_rt.quality.majorities import majority_value


def _enumerated(votes: list[tuple[str, float]], k: int) -> Fraction:
    """The majority's expected value by going through every draw of ``k`` samples."""
    worth: dict[str, Fraction] = {}
    for key in {key for key, _ in votes}:
        values = [Fraction(value) for other, value in votes if other == key]
        worth[key] = sum(values, Fraction(0)) / len(values)
    results = []
    for draw in combinations(range(len(votes)), k):
        counted = Counter(votes[i][0] for i in draw)
        if len(counted) > 1:
            del counted[""]
        winners = [key for key, count in counted.items() if count == max(counted.values())]
        results.append(sum((worth[key] for key in winners), Fraction(0)) / len(winners))
    return sum(results, Fraction(0)) / len(results)


_VOTES = st.lists(st.tuples(st.sampled_from(["", "a", "b", "c", "d"]), st.sampled_from([0.0, 1.0, 0.25])), max_size=8)


@settings(max_examples=200, deadline=None)
@given(_VOTES.filter(bool), st.randoms(use_true_random=False))
def test_majority_equals_enumeration_of_every_draw_whatever_the_order(
    votes: list[tuple[str, float]], source: random.Random
) -> None:
    shuffled = source.sample(votes, len(votes))
    for k in range(1, len(votes) + 1):
        found = majority_value(votes, k)
        assert found == pytest.approx(float(_enumerated(votes, k)), abs=1e-15)
        assert majority_value(shuffled, k) == found


def test_majority_by_hand() -> None:
    votes = [("42", 1.0), ("42", 1.0), ("41", 0.0), ("", 0.0)]
    # All four: two votes against one. Three: {42,42,41}, {42,42,-} and twice {42,41,-}, a tie: (1 + 1 + ½ + ½)/4.
    # One: half the samples are right.
    assert [majority_value(votes, k) for k in (1, 3, 4)] == [0.5, 0.75, 1.0]


def test_silence_never_beats_an_answer() -> None:
    assert majority_value([("", 0.0)] * 7 + [("42", 1.0)], 8) == 1.0
    assert majority_value([("", 0.0)] * 7 + [("42", 1.0)], 2) == 0.25


def test_sixty_four_different_answers_are_counted_exactly() -> None:
    votes = [(str(i), float(i < 16)) for i in range(64)]
    assert [majority_value(votes, k) for k in (1, 2, 32, 64)] == [0.25] * 4


@pytest.mark.parametrize("k", [0, 3])
def test_more_votes_than_samples_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match="2 samples"):
        majority_value([("a", 1.0), ("b", 0.0)], k)


@pytest.mark.parametrize("answers", [1, 3, 12, 60])
def test_majority_of_many_samples_is_the_exact_one(answers: int) -> None:
    source = random.Random(answers)
    keys = [str(source.randrange(answers)) if source.random() < 0.9 else "" for _ in range(60)]
    votes = [(key, (len(key) + 3 * ord(key[-1])) % 10 / 10 if key else 0.5) for key in keys]
    for k in (1, 2, 5, 16, 40, 60):
        assert majority_value(votes, k) == pytest.approx(exact_majority_value(votes, k), abs=1e-11)


def test_majority_of_a_thousand_samples_takes_less_than_a_second() -> None:
    source = random.Random(1)
    votes = [(str(min(source.randrange(9), source.randrange(9))), 0.0) for _ in range(1000)]
    votes = [(key, float(key == "0")) for key, _ in votes]
    started = time.thread_time()
    values = [majority_value(votes, 1 << i) for i in range(10)]
    assert time.thread_time() - started < 3
    assert values == sorted(values)
