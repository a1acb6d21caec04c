"""Text of a growing answer."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tunix_rt.inferencer.text import Transcript


def run(tokenizer: Any, text_tokens: list[int], stop: tuple[str, ...]) -> tuple[list[str], bool]:
    transcript, pieces = Transcript(tokenizer.detokenizer(), stop), []
    for token in text_tokens:
        stopped = transcript.push(token)
        pieces.append(transcript.take())
        if stopped:
            return pieces, True
    pieces.append(transcript.finish())
    return pieces, False


def test_a_stop_string_across_token_borders_ends_the_text_before_it(tokenizer: Any) -> None:
    pieces, stopped = run(tokenizer, tokenizer.encode("sum</answer>more"), ("</answer>",))
    assert stopped
    assert "".join(pieces) == "sum"


def test_text_that_may_become_a_stop_string_is_held_back_and_released_when_it_does_not(tokenizer: Any) -> None:
    pieces, stopped = run(tokenizer, tokenizer.encode("a</b"), ("</answer>",))
    assert pieces == ["a", "", "", "</b", ""]
    assert not stopped


def test_the_end_releases_a_held_ending(tokenizer: Any) -> None:
    pieces, stopped = run(tokenizer, tokenizer.encode("x</ans"), ("</answer>",))
    assert pieces[-1] == "</ans"
    assert not stopped


def test_the_stop_string_that_is_complete_first_wins(tokenizer: Any) -> None:
    assert "".join(run(tokenizer, tokenizer.encode("xabcy"), ("abc", "b"))[0]) == "xa"
    assert "".join(run(tokenizer, tokenizer.encode("xabcy"), ("abc", "bc"))[0]) == "x"


def test_half_a_character_is_never_shown(tokenizer: Any) -> None:
    pieces, _ = run(tokenizer, [65, 95, 96, 66], ())
    assert pieces == ["a", "", "é", "b", ""]


def test_an_incomplete_character_at_the_end_shows_as_replacement(tokenizer: Any) -> None:
    pieces, _ = run(tokenizer, [65, 95], ())
    assert pieces == ["a", "", "\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize("seed", range(20))
def test_pieces_equal_a_search_over_the_whole_text(tokenizer: Any, seed: int) -> None:
    chance = random.Random(seed)
    text = "".join(chance.choice("ab<") for _ in range(60))
    stops = tuple("".join(chance.choice("ab<") for _ in range(chance.randint(2, 6))) for _ in range(3))
    first_end = min((end for end in range(1, 61) if text[:end].endswith(stops)), default=None)
    if first_end is None:
        expected = text
    else:
        expected = text[: first_end - max(len(s) for s in stops if text[:first_end].endswith(s))]
    pieces, stopped = run(tokenizer, tokenizer.encode(text), stops)
    assert "".join(pieces) == expected
    assert stopped is (first_end is not None)
