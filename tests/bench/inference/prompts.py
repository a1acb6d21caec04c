"""The requests of this benchmark: ragged prompts of worked problems in the model's chat template.

A prompt asks 1 to 7 problems of recipe arith-v1 and shows as many worked ones before; how many is drawn from a
log-normal distribution. How many tokens are wanted is drawn evenly from 32 to 128 and is no secret of the engine's:
end-of-sequence tokens are ignored everywhere, so that all engines do the same work.
"""

from __future__ import annotations

import numpy as np
from workload import Request

from tunix_rt.models.tokenizer import Tokenizer, render_prompt
from tunix_rt.traces.recipes import build
from tunix_rt.traces.render import render_completion

LONGEST = 512
FEWEST, MOST = 32, 128


def texts(count: int, *, seed: int = 0) -> list[str]:
    """``count`` user turns: worked problems, then one that is open."""
    source = np.random.default_rng(seed)
    sizes = np.clip(np.rint(source.lognormal(0.6, 0.75, count)), 1, 7).astype(int)
    traces = iter(build("arith-v1", size=int(sizes.sum()), seed=seed))
    found = []
    for size in sizes:
        *shown, asked = (next(traces) for _ in range(size))
        found.append("\n".join([*(f"{trace.prompt}\n{render_completion(trace)}" for trace in shown), asked.prompt]))
    return found


def ragged(tokenizer: Tokenizer, count: int, *, seed: int = 0) -> list[Request]:
    """``count`` requests with prompts of at most `LONGEST` tokens; of longer ones the end is kept."""
    wanted = np.random.default_rng(seed + 1).integers(FEWEST, MOST + 1, count)
    prompts = (render_prompt(tokenizer, text)[-LONGEST:] for text in texts(count, seed=seed))
    return [Request(prompt, int(most)) for prompt, most in zip(prompts, wanted, strict=True)]


def prefixed(tokenizer: Tokenizer, length: int, count: int, *, seed: int = 0) -> list[list[int]]:
    """``count`` prompts that share their first ``length`` tokens and go on differently."""
    shared = [token for text in texts(200, seed=seed) for token in tokenizer.encode(text)][:length]
    if len(shared) < length:
        raise ValueError(f"the texts have {len(shared)} tokens, not {length}")
    return [shared + tokenizer.encode(f"\n{number + 10} + {number + 20} = ?") for number in range(count)]
