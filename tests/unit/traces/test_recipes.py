"""The recipes: what they promise, solved again by other means."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.quality.tokens import count_tokens
from tunix_rt.traces.dataset import build_from_recipe
from tunix_rt.traces.normalise import ngrams, normalise_prompt
from tunix_rt.traces.recipes import arith, build, draw_traces, held_out_problems
from tunix_rt.traces.render import render_completion


def _solve(prompt: str) -> int:
    """The answer by reading the prompt, not by trusting the generator."""
    numbers = [int(n) for n in re.findall(r"\d+", prompt)]
    if match := re.match(r"Subtract (\d+) from (\d+)\.", prompt):
        return int(match[2]) - int(match[1])
    if "ouble" in prompt or "twice" in prompt:
        return 2 * numbers[0]
    if "larger" in prompt or "smaller" in prompt:
        return max(numbers) if "larger" in prompt else min(numbers)
    if "next" in prompt or "Continue" in prompt:
        return 2 * numbers[3] - numbers[2]
    if "boxes" in prompt or re.search(r"\*|times|Multiply", prompt):
        return numbers[0] * numbers[1]
    if re.search(r" - |minus", prompt):
        return numbers[0] - numbers[1]
    if len(numbers) == 3:
        return numbers[0] + numbers[1] - numbers[2]
    if re.search(r"loses|sells", prompt):
        return numbers[0] - numbers[1]
    return numbers[0] + numbers[1]


def test_every_arith_answer_is_right() -> None:
    traces = build("arith-v1")
    assert len(traces) == 6000
    assert all(str(_solve(trace.prompt)) == trace.final_answer for trace in traces)
    assert all(0 <= int(trace.final_answer) < 100 for trace in traces)


def test_arith_is_small_enough_to_be_learnt_on_a_cpu() -> None:
    traces = build("arith-v1")
    assert max(count_tokens(t.prompt) + count_tokens(render_completion(t)) for t in traces) <= 70
    words = {w for t in traces for w in re.findall(r"[A-Za-z]+", t.prompt + render_completion(t))}
    assert len(words) <= 250
    assert len(Counter(t.meta["category"] for t in traces)) == 8
    assert set(Counter(t.meta["difficulty"] for t in traces)) == {"easy", "medium", "hard"}


def test_arith_training_and_evaluation_sides_never_meet() -> None:
    trained = {trace.prompt for seed in (0, 1, 7) for trace in build("arith-v1", 3000, seed)}
    held_out = {problem.prompt for problem in held_out_problems(20260101, 300)}
    assert len(held_out) == 300
    assert trained.isdisjoint(held_out)
    assert all(arith.is_held_out(prompt) for prompt in held_out)


def test_same_seed_gives_the_same_digest_and_another_seed_another() -> None:
    first = build_from_recipe("arith-v1", size=500)
    assert build_from_recipe("arith-v1", size=500).digest == first.digest
    assert build_from_recipe("arith-v1", size=500, seed=1).digest != first.digest
    assert [t.prompt for t in build("arith-v1", 100)] == [t.prompt for t in first.traces[:100]]


def test_golden_is_one_hundred_distinct_examples_of_twenty_domains() -> None:
    traces = build("golden-v2")
    assert len({normalise_prompt(t.prompt) for t in traces}) == len(traces) == 100
    assert set(Counter(t.meta["category"] for t in traces).values()) == {5}
    assert all(2 <= len(t.steps) <= 8 and t.steps[-1].type == "conclude" for t in traces)
    assert {t.prompt for t in build("golden-v2", seed=3)} == {t.prompt for t in traces}
    assert build("golden-v2", seed=3) != traces


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        ("A library lends", "106"),
        ("If 29 pencils", "1"),
        ("A coat costs 250", "25"),
        ("What is 1/2 plus 1/3", "5/6"),
        ("Solve for x: 6x + 13 = 31", "3"),
        ("Which number continues the sequence 90", "30"),
        ("Find the greatest common divisor of 48 and 36", "12"),
        ("A puppet show starts at 18:30", "19:15"),
        ("Today is Thursday. Which day of the week will it be in 19 days", "Tuesday"),
        ("Which date is 12 days after 25 January", "6 February"),
        ("Which date is 15 days after 20 June", "5 July"),
        ("How many hours does a lorry need for 240 km", "3 hours"),
        ("A bag holds 5 silver", "1/4"),
        ('How many times does the letter "e" occur in "committee"', "2"),
        ("Which numbers are in both lists: 2, 4, 6, 8", "4, 6"),
        ("Which number is larger, 12.05 or 12.5", "12.5"),
        ("What is the difference between the largest and the smallest of 98", "18"),
    ],
)
def test_golden_answers_worked_out_by_hand(start: str, answer: str) -> None:
    (trace,) = [t for t in build("golden-v2") if t.prompt.startswith(start)]
    assert trace.final_answer == answer


def test_excluded_prompts_are_drawn_anew() -> None:
    plain = build("arith-v1", 200)
    kept_out = [plain[3].prompt.upper(), plain[50].prompt]
    drawn = draw_traces("arith-v1", 200, exclude_prompts=kept_out)
    assert len(drawn.traces) == 200
    assert drawn.dropped_contaminated == 2
    assert not {normalise_prompt(p) for p in kept_out} & {normalise_prompt(t.prompt) for t in drawn.traces}
    assert len(build("golden-v2", exclude_prompts=[build("golden-v2")[0].prompt])) == 99


@pytest.mark.parametrize(
    ("recipe", "size"), [("arith-v9", 10), ("arith-v1", 0), ("golden-v2", 101), ("arith-v1", 300_000)]
)
def test_impossible_build_is_refused(recipe: str, size: int) -> None:
    with pytest.raises(InvalidInput):
        build(recipe, size)


def test_normal_form_keeps_operators_and_drops_spelling() -> None:
    assert normalise_prompt("What is  7 + 5?") == normalise_prompt("what is 7 + 5") == "what is 7 + 5"
    assert normalise_prompt("7 + 5") != normalise_prompt("7 - 5")
    assert normalise_prompt("３．５ km!") == "3.5 km"
    assert ngrams("a b c d", 3) == {"a b c", "b c d"}
    assert ngrams("a b", 3) == {"a b"}
    assert ngrams("?", 3) == set()
