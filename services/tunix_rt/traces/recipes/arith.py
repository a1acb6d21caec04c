"""Recipe `arith-v1`: small arithmetic problems whose traces never need more than a single-digit fact at a time.

Owns the generator and the split into training and held-out prompts. A model of about a million parameters, trained from
nothing for a minute or two on a CPU, learns it: few words, short regular sentences, column-wise steps.

A prompt is held out when its hash says so, so `evalsets/arith_v1.jsonl` and every training set of any size and seed are
disjoint by construction; the number facts themselves occur on both sides, in other wordings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tunix_rt.traces.recipes.drawing import Draw
from tunix_rt.traces.schema import Step, Trace

NAMES = ("Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gus", "Hana", "Ian", "Jill", "Kim", "Leo")
THINGS = ("apples", "pens", "books", "coins", "cards", "eggs", "shells", "stamps", "balls", "cups", "keys", "nuts")

# One prompt in 12 is kept out of training for evaluation.
_HELD_OUT_ONE_IN = 12


@dataclass(frozen=True)
class Problem:
    """A generated problem with its worked steps; ``steps`` are (type, content) pairs."""

    category: str
    difficulty: str
    prompt: str
    steps: tuple[tuple[str, str], ...]
    answer: str

    def to_trace(self) -> Trace:
        """The trace of this problem."""
        return Trace(
            prompt=self.prompt,
            final_answer=self.answer,
            steps=tuple(Step(i=i, type=kind, content=text) for i, (kind, text) in enumerate(self.steps, start=1)),
            meta={"category": self.category, "difficulty": self.difficulty, "recipe": "arith-v1"},
        )


def is_held_out(prompt: str) -> bool:
    """Whether a prompt belongs to the evaluation side of the split; depends on the prompt alone."""
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big") % _HELD_OUT_ONE_IN == 0


def problems(seed: int) -> Iterator[Problem]:
    """An endless stream of problems of both sides of the split; the same for the same seed."""
    draw = Draw(seed)
    while True:
        yield draw.weighted(_MIX)(draw)


# --- steps: each line needs one look-up of a single-digit fact -----------------------------------------------------


def _add(a: int, b: int) -> tuple[tuple[str, str], ...]:
    ones = a % 10 + b % 10
    steps = [("compute", f"ones {a % 10}+{b % 10}={ones}")]
    if a >= 10 or b >= 10:
        carry = ones // 10
        steps.append(("compute", f"tens {a // 10}+{b // 10}+{carry}={a // 10 + b // 10 + carry}"))
    return tuple(steps)


def _subtract(a: int, b: int) -> tuple[tuple[str, str], ...]:
    x, y = a % 10, b % 10
    borrow = int(x < y)
    # Both digits are copied before it is decided whether to borrow: one easy step at a time.
    steps = [("compute", f"ones {x}-{y} borrow {x + 10}-{y}={x + 10 - y}" if borrow else f"ones {x}-{y}={x - y}")]
    if a >= 10:
        steps.append(("compute", f"tens {a // 10}-{b // 10}-{borrow}={a // 10 - b // 10 - borrow}"))
    return tuple(steps)


def _multiply(a: int, b: int) -> tuple[tuple[str, str], ...]:
    return (("compute", f"times {a}*{b}={a * b}"),)


def _compare(a: int, b: int, larger: bool) -> tuple[tuple[str, str], ...]:
    """Digits first, then which of the two numbers it is, so that the answer is a plain copy of that number."""

    def line(place: str, x: int, y: int) -> str:
        return f"{place} {x} and {y} so {x}{'<' if x < y else '>' if x > y else '='}{y}"

    lines = [line("tens", a // 10, b // 10)]
    if a // 10 == b // 10:
        lines.append(line("ones", a % 10, b % 10))
    lines.append("take the first" if (a > b) == larger else "take the second")
    return tuple(("compare", text) for text in lines)


# --- draws ---------------------------------------------------------------------------------------------------------


def _sum_pair(draw: Draw) -> tuple[int, int, str]:
    """Two addends with a sum under 100."""
    kind = draw.below(4)
    if kind <= 1:
        return draw.between(1, 9), draw.between(1, 9), "easy"
    if kind == 2:
        a, b = draw.between(11, 89), draw.between(1, 9)
    else:
        a = draw.between(11, 88)
        b = draw.between(11, 99 - a) if a <= 88 else 11
    return a, b, "hard" if a % 10 + b % 10 >= 10 else "medium"


def _difference_pair(draw: Draw) -> tuple[int, int, str]:
    """A minuend and a subtrahend that is not larger."""
    kind = draw.below(4)
    if kind <= 1:
        a = draw.between(2, 9)
        return a, draw.between(1, a), "easy"
    a = draw.between(12, 99)
    b = draw.between(1, 9) if kind == 2 else draw.between(11, a)
    return a, b, "hard" if a % 10 < b % 10 else "medium"


def _addition(draw: Draw) -> Problem:
    a, b, difficulty = _sum_pair(draw)
    prompt = draw.one_of((f"What is {a} + {b}?", f"Add {a} and {b}.", f"Find {a} plus {b}."))
    return Problem("addition", difficulty, prompt, _add(a, b), str(a + b))


def _subtraction(draw: Draw) -> Problem:
    a, b, difficulty = _difference_pair(draw)
    prompt = draw.one_of((f"What is {a} - {b}?", f"Subtract {b} from {a}.", f"Find {a} minus {b}."))
    return Problem("subtraction", difficulty, prompt, _subtract(a, b), str(a - b))


def _multiplication(draw: Draw) -> Problem:
    a, b = draw.between(2, 9), draw.between(2, 9)
    prompt = draw.one_of((f"What is {a} * {b}?", f"Multiply {a} by {b}.", f"Find {a} times {b}."))
    return Problem("multiplication", "easy" if a * b <= 25 else "medium", prompt, _multiply(a, b), str(a * b))


def _doubling(draw: Draw) -> Problem:
    a = draw.between(1, 49)
    prompt = draw.one_of((f"Double {a}.", f"What is double {a}?", f"Find twice {a}."))
    difficulty = "easy" if a < 10 else "medium" if a % 10 < 5 else "hard"
    return Problem("doubling", difficulty, prompt, _add(a, a), str(2 * a))


def _comparison(draw: Draw) -> Problem:
    a = draw.between(10, 99)
    b = draw.between(10, 99)
    if draw.below(3) == 0:
        b = a - a % 10 + draw.below(10)
    if a == b:
        b = a + 1 if a < 99 else a - 1
    larger = draw.below(2) == 0
    word = "larger" if larger else "smaller"
    prompt = draw.one_of((f"Which is {word}, {a} or {b}?", f"Pick the {word} number: {a} or {b}."))
    answer = max(a, b) if larger else min(a, b)
    difficulty = "easy" if a // 10 != b // 10 else "medium"
    return Problem("comparison", difficulty, prompt, _compare(a, b, larger), str(answer))


def _sequence(draw: Draw) -> Problem:
    step = draw.between(1, 4)
    # The first two terms share their tens, so that the step is a difference of single digits.
    start = 10 * draw.below(7) + draw.between(0, 9 - step)
    terms = [start + step * k for k in range(4)]
    listed = ", ".join(map(str, terms))
    prompt = draw.one_of((f"What comes next: {listed}?", f"Continue: {listed}.", f"Which number is next: {listed}?"))
    steps = (("compute", f"step {terms[1] % 10}-{terms[0] % 10}={step}"), *_add(terms[3], step))
    return Problem("sequence", "easy" if step <= 2 else "medium", prompt, steps, str(terms[3] + step))


def _gain_story(draw: Draw) -> Problem:
    a, b, difficulty = _sum_pair(draw)
    name, thing = draw.one_of(NAMES), draw.one_of(THINGS)
    prompt = draw.one_of(
        (
            f"{name} has {a} {thing} and gets {b} more. How many {thing} now?",
            f"{name} has {a} {thing} and buys {b} more. How many {thing} in all?",
        )
    )
    return Problem("word_one_step", difficulty, prompt, _add(a, b), str(a + b))


def _loss_story(draw: Draw) -> Problem:
    a, b, difficulty = _difference_pair(draw)
    name, thing = draw.one_of(NAMES), draw.one_of(THINGS)
    prompt = draw.one_of(
        (
            f"{name} has {a} {thing} and loses {b}. How many {thing} are left?",
            f"{name} has {a} {thing} and sells {b}. How many {thing} remain?",
        )
    )
    return Problem("word_one_step", difficulty, prompt, _subtract(a, b), str(a - b))


def _group_story(draw: Draw) -> Problem:
    a, b = draw.between(2, 9), draw.between(2, 9)
    name, thing = draw.one_of(NAMES), draw.one_of(THINGS)
    prompt = f"{name} has {a} boxes with {b} {thing} each. How many {thing} in all?"
    return Problem("word_one_step", "easy" if a * b <= 25 else "medium", prompt, _multiply(a, b), str(a * b))


def _two_step_story(draw: Draw) -> Problem:
    name, thing = draw.one_of(NAMES), draw.one_of(THINGS)
    a, b = draw.between(2, 9), draw.between(1, 9)
    have = a + b
    c = draw.between(1, min(9, have))
    prompt = draw.one_of(
        (
            f"{name} has {a} {thing}, gets {b} more and loses {c}. How many {thing} are left?",
            f"{name} has {a} {thing}, buys {b} more and sells {c}. How many {thing} remain?",
        )
    )
    steps = (("compute", f"first {a}+{b}={have}"), ("compute", f"then {have}-{c}={have - c}"))
    return Problem("word_two_step", "hard" if have >= 10 else "medium", prompt, steps, str(have - c))


_MIX: tuple[tuple[Callable[[Draw], Problem], int], ...] = (
    (_addition, 5),
    (_subtraction, 5),
    (_multiplication, 3),
    (_doubling, 2),
    (_comparison, 3),
    (_sequence, 3),
    (_gain_story, 4),
    (_loss_story, 4),
    (_group_story, 3),
    (_two_step_story, 3),
)
