"""Renders a trace as what a model is trained on and later scored by. The model's chat template writes the turns."""

from __future__ import annotations

from collections.abc import Sequence

from tunix_rt.traces.schema import ASSISTANT, USER, Trace

REASONING_OPEN, REASONING_CLOSE = "<reasoning>", "</reasoning>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"


def render_completion(trace: Trace) -> str:
    """The completion of ``trace``: the steps in order, one per line, then the answer; without steps the answer."""
    if not trace.steps:
        return trace.final_answer
    return render_parts([step.content for step in trace.steps], trace.final_answer)


def render_parts(steps: Sequence[str], final_answer: str) -> str:
    """The completion of the given step texts and answer."""
    body = "\n".join(steps)
    return f"{REASONING_OPEN}\n{body}\n{REASONING_CLOSE}\n{ANSWER_OPEN}{final_answer}{ANSWER_CLOSE}"


def render_messages(trace: Trace) -> list[dict[str, str]]:
    """The whole conversation as messages of ``role`` and ``content``; the last one is the completion."""
    system = [{"role": "system", "content": trace.system}] if trace.system else []
    return [
        *system,
        *({"role": turn.role, "content": turn.content} for turn in trace.history),
        {"role": USER, "content": trace.prompt},
        {"role": ASSISTANT, "content": render_completion(trace)},
    ]
