"""Renders a trace as the completion that a model is trained on and later scored by.

The model's chat template renders the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.traces.schema import Trace

REASONING_OPEN, REASONING_CLOSE = "<reasoning>", "</reasoning>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"


def render_completion(trace: Trace) -> str:
    """The completion of ``trace``: the steps in order, one per line, then the answer."""
    return render_parts([step.content for step in trace.steps], trace.final_answer)


def render_parts(steps: Sequence[str], final_answer: str) -> str:
    """The completion of the given step texts and answer."""
    body = "\n".join(steps)
    return f"{REASONING_OPEN}\n{body}\n{REASONING_CLOSE}\n{ANSWER_OPEN}{final_answer}{ANSWER_CLOSE}"
