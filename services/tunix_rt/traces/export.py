"""Export of datasets to the formats of other trainers, one line per trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tunix_rt.contract.digests import canonical_json
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.traces.render import render_completion, render_messages
from tunix_rt.traces.schema import ASSISTANT, USER, Trace, canonical_line


def to_chat(trace: Trace) -> dict[str, Any]:
    """Conversational layout (``messages`` with roles) of Hugging Face TRL and most fine-tuning services."""
    return {"messages": render_messages(trace)}


def to_tunix_sft(trace: Trace) -> dict[str, Any]:
    """Supervised layout for google-tunix: Gemma turns as plain text, prompt and completion separate.

    ``text`` is their concatenation; the loss is computed on ``completion`` only.
    """
    *earlier, question, _ = render_messages(trace)
    if trace.system:  # Gemma has no system role: the first user turn begins with it.
        first = earlier[1] if trace.history else question
        first["content"] = f"{trace.system}\n\n{first['content']}"
        earlier = earlier[1:]
    names = {USER: "user", ASSISTANT: "model"}
    turns = "".join(
        f"<start_of_turn>{names[turn['role']]}\n{turn['content']}<end_of_turn>\n" for turn in (*earlier, question)
    )
    prompt = f"{turns}<start_of_turn>model\n"
    completion = f"{render_completion(trace)}<end_of_turn>"
    return {
        "prompt": prompt,
        "completion": completion,
        "text": prompt + completion,
        "final_answer": trace.final_answer,
        "metadata": trace.meta,
    }


def _canonical(layout: Callable[[Trace], dict[str, Any]]) -> Callable[[Trace], str]:
    def line(trace: Trace) -> str:
        return canonical_json(layout(trace))

    return line


FORMATS: dict[str, Callable[[Trace], str]] = {
    "trace": canonical_line,
    "tunix_sft": _canonical(to_tunix_sft),
    "chat": _canonical(to_chat),
}


def export_lines(traces: Iterable[Trace], export_format: str) -> Iterator[str]:
    """One JSONL line (newline included) per trace. Raises `InvalidInput` for a format that is not in `FORMATS`."""
    if export_format not in FORMATS:
        known = ", ".join(FORMATS)
        raise InvalidInput([FieldViolation("format", f"unknown format {export_format!r}; expected one of {known}")])
    line = FORMATS[export_format]
    return (line(trace) + "\n" for trace in traces)
