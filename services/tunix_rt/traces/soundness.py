"""Doubts about a trace: control tokens and tags in its texts; false equations, a different conclusion, empty steps and
loops in its steps.

The steps are checked with `quality.coherence`. Whether the answer is correct plays no part.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunix_rt.quality.coherence import ends_in_loop, trace_coherence
from tunix_rt.traces.control_tokens import control_tokens, stray_tags
from tunix_rt.traces.schema import Trace

FALSE_EQUATION = "false_equation"
OTHER_CONCLUSION = "other_conclusion"
EMPTY_STEP = "empty_step"
LOOP = "loop"
CONTROL_TOKENS = "control_tokens"
STRAY_TAGS = "stray_tags"

_MAX_DETAIL = 200

EXPLANATIONS = {
    FALSE_EQUATION: "a step states an equation or comparison that does not hold",
    OTHER_CONCLUSION: "the steps end in something other than the final answer",
    EMPTY_STEP: "a step has neither a letter nor a digit",
    LOOP: "the steps end by repeating themselves",
    CONTROL_TOKENS: "a text has control tokens of a chat format, which are trained as text",
    STRAY_TAGS: "a step or the answer has tags of the completion's own form",
}


@dataclass(frozen=True)
class Doubt:
    """One doubt about one trace: its kind, and the text of the trace that raises it."""

    position: int
    kind: str
    detail: str


def doubts(position: int, trace: Trace) -> list[Doubt]:
    """The doubts about the trace at ``position``; empty for a sound trace."""
    texts = ((CONTROL_TOKENS, control_tokens(trace)), (STRAY_TAGS, stray_tags(trace)))
    found = [Doubt(position, kind, " ".join(tokens)[:_MAX_DETAIL]) for kind, tokens in texts if tokens]
    return found + _of_steps(position, trace)


def _of_steps(position: int, trace: Trace) -> list[Doubt]:
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
