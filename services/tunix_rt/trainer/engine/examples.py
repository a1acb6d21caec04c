"""Traces to token sequences with a completion-only loss mask, under the run's length budget.

Knows nothing of batches or of the model's mathematics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunix_rt.errors import FieldViolation, InvalidInput

RenderExample = Callable[[str, str], tuple[Sequence[int], Sequence[bool | int]]]


@dataclass(frozen=True)
class Example:
    """One tokenized trace.

    ``tokens`` [n] i32 and ``is_target`` [n] bool, true where the model must predict the token.
    """

    tokens: npt.NDArray[np.int32]
    is_target: npt.NDArray[np.bool_]

    @property
    def length(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Tokenized:
    """The examples that a run trains on, and what its length budget cost."""

    examples: tuple[Example, ...]
    dropped: int
    truncated: int
    longest: int

    @property
    def tokens(self) -> int:
        return sum(example.length for example in self.examples)


def tokenize(pairs: Sequence[tuple[str, str]], render: RenderExample, *, max_length: int, overlong: str) -> Tokenized:
    """Render every (prompt, completion) and apply the budget of ``max_length`` tokens.

    ``overlong`` is ``drop``, ``truncate`` (cut at the end; dropped if no target is left) or ``error``.
    Raises `InvalidInput` naming ``hyperparameters.max_seq_length`` for ``error``, or when nothing is left to train on.
    """
    kept: list[Example] = []
    dropped = truncated = longest = 0
    for prompt, completion in pairs:
        ids, mask = render(prompt, completion)
        longest = max(longest, len(ids))
        if len(ids) > max_length and overlong != "truncate":
            dropped += 1
            continue
        example = Example(np.asarray(ids[:max_length], np.int32), np.asarray(mask[:max_length], np.bool_))
        if not example.is_target[1:].any():
            dropped += 1
            continue
        truncated += len(ids) > max_length
        kept.append(example)
    if overlong == "error" and longest > max_length:
        raise _over_budget(
            f"{dropped} of {len(pairs)} examples are longer than {max_length} tokens (longest: {longest})"
        )
    if not kept:
        raise _over_budget(f"no example has a completion within {max_length} tokens (longest: {longest} tokens)")
    return Tokenized(tuple(kept), dropped, truncated, longest)


def _over_budget(problem: str) -> InvalidInput:
    return InvalidInput([FieldViolation("hyperparameters.max_seq_length", f"{problem}; raise it, or choose overlong")])
