"""What every engine of this benchmark trains on: tokenised reasoning traces, ragged or of one length, as an ``.npz``.

A trace is a sheet of 1 to 7 problems of recipe arith-v1 with their worked steps; how many is drawn from a log-normal
distribution, so that lengths are as skewed as those of reasoning traces are. Every engine sees the same examples in
the same order. Knows no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunix_rt.models.tokenizer import Tokenizer
from tunix_rt.traces.recipes import build
from tunix_rt.traces.render import render_completion

LONGEST = 512


@dataclass(frozen=True)
class Workload:
    """``tokens`` and ``is_target`` of all examples end to end, i32 and bool; ``lengths`` tells where each ends."""

    tokens: np.ndarray
    is_target: np.ndarray
    lengths: np.ndarray

    def examples(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(tokens [n], is_target [n]) of every example."""
        ends = np.cumsum(self.lengths)
        return [
            (self.tokens[end - n : end], self.is_target[end - n : end])
            for end, n in zip(ends, self.lengths, strict=True)
        ]

    def save(self, path: Path) -> None:
        np.savez(path, tokens=self.tokens, is_target=self.is_target, lengths=self.lengths)

    @staticmethod
    def load(path: Path) -> Workload:
        with np.load(path) as file:
            return Workload(file["tokens"], file["is_target"], file["lengths"])


def texts(count: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """``count`` pairs of prompt and completion of 1 to 7 problems each."""
    source = np.random.default_rng(seed)
    sizes = np.clip(np.rint(source.lognormal(0.6, 0.75, count)), 1, 7).astype(int)
    traces = iter(build("arith-v1", size=int(sizes.sum()), seed=seed))
    pairs = []
    for size in sizes:
        sheet = [next(traces) for _ in range(size)]
        pairs.append(("\n".join(t.prompt for t in sheet), "\n".join(render_completion(t) for t in sheet)))
    return pairs


def ragged(tokenizer: Tokenizer, count: int) -> Workload:
    """``count`` examples of at most `LONGEST` tokens; longer ones are cut."""
    from tunix_rt.models.chat import render_example

    tokens, targets = [], []
    for prompt, completion in texts(count):
        ids, mask = render_example(tokenizer, prompt, completion)
        tokens.append(np.asarray(ids[:LONGEST], np.int32))
        targets.append(np.asarray(mask[:LONGEST], np.bool_))
    return Workload(np.concatenate(tokens), np.concatenate(targets), np.asarray([len(ids) for ids in tokens]))


def full(of: Workload, length: int = LONGEST) -> Workload:
    """The same tokens cut into sequences of ``length``, every token a target."""
    count = len(of.tokens) // length
    tokens = of.tokens[: count * length]
    return Workload(tokens, np.ones(len(tokens), np.bool_), np.full(count, length))
