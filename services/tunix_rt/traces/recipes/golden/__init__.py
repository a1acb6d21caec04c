"""Recipe `golden-v2`: one hundred worked examples, five in each of twenty domains.

It is the pipeline's unit test (small, fixed, every answer checkable) and a first lesson in the answer format for a
pretrained model. The examples are fixed; a seed other than 0 only changes their order.
"""

from __future__ import annotations

from collections.abc import Iterator

from tunix_rt.traces.recipes.drawing import Draw
from tunix_rt.traces.recipes.golden import numbers, quantities, words
from tunix_rt.traces.recipes.golden.example import Example
from tunix_rt.traces.schema import Trace

EXAMPLES: tuple[Example, ...] = (*numbers.examples(), *quantities.examples(), *words.examples())


def traces(seed: int) -> Iterator[Trace]:
    """The hundred traces: in written order for seed 0, in a seeded permutation for any other seed."""
    ordered = EXAMPLES if seed == 0 else Draw(seed).shuffled(EXAMPLES)
    return (example.to_trace() for example in ordered)
