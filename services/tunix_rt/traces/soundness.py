"""Doubts about a trace's steps: false equations, a different conclusion, empty steps, loops.

The steps are checked with `quality.coherence`. Whether the answer is correct plays no part.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.quality.coherence import ends_in_loop, trace_coherence
from tunix_rt.traces.schema import Trace

FALSE_EQUATION = "false_equation"
OTHER_CONCLUSION = "other_conclusion"
EMPTY_STEP = "empty_step"
LOOP = "loop"

EXPLANATIONS = {
    FALSE_EQUATION: "a step states an equation or comparison that does not hold",
    OTHER_CONCLUSION: "the steps end in something other than the final answer",
    EMPTY_STEP: "a step has neither a letter nor a digit",
    LOOP: "the steps end by repeating themselves",
}


@dataclass(frozen=True)
class Doubt:
    """One doubt about one trace: its kind, and the text of the trace that raises it."""

    position: int
    kind: str
    detail: str


def doubts(position: int, trace: Trace) -> list[Doubt]:
    """The doubts about the trace at ``position``; empty for a sound trace."""
    found = [
        Doubt(position, EMPTY_STEP, f"step {step.i}: {step.content!r}")
        for step in trace.steps
        if not any(character.isalnum() for character in step.content)
    ]
    if not trace.steps:
        return []
    reasoning = "\n".join(step.content for step in trace.steps)
    coherence = trace_coherence(trace.prompt, reasoning, trace.final_answer)
    found += [Doubt(position, FALSE_EQUATION, statement) for statement in coherence.false_statements]
    if coherence.conclusion == 0.0:
        ends = f"answer {trace.final_answer!r} after {trace.steps[-1].content!r}"
        found.append(Doubt(position, OTHER_CONCLUSION, ends))
    if ends_in_loop(reasoning):
        found.append(Doubt(position, LOOP, reasoning[-80:]))
    return found
