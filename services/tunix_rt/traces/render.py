"""How a trace becomes the text that a model is trained to write, and is later scored on.

Owns the tags. Knows nothing of chat templates: the user's turn is put around the prompt by the model's own template.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.traces.schema import Trace

REASONING_OPEN, REASONING_CLOSE = "<reasoning>", "</reasoning>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"


def render_completion(trace: Trace) -> str:
    """The completion that training's loss is taken on: the steps in order, one per line, then the answer."""
    return render_parts([step.content for step in trace.steps], trace.final_answer)


def render_parts(steps: Sequence[str], final_answer: str) -> str:
    """The completion of the given step texts and answer, without a trace around them."""
    body = "\n".join(steps)
    return f"{REASONING_OPEN}\n{body}\n{REASONING_CLOSE}\n{ANSWER_OPEN}{final_answer}{ANSWER_CLOSE}"
