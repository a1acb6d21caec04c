"""The examples of this benchmark: tokenised reasoning traces, ragged or of one length.

A trace is a sheet of 1 to 7 problems of recipe arith-v1 with their worked steps; how many is drawn from a log-normal
distribution, so that lengths are as skewed as those of reasoning traces are. Every engine sees the same ones.
"""

from __future__ import annotations

import numpy as np
from workload import Workload

from tunix_rt.models.tokenizer import Tokenizer, render_example
from tunix_rt.traces.recipes import build
from tunix_rt.traces.render import render_completion

LONGEST = 512


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
