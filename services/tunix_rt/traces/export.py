"""Export of datasets to the formats of other trainers, one line per trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tunix_rt.contract.digests import canonical_json
from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.traces.render import render_completion
from tunix_rt.traces.schema import Trace, canonical_line


def to_chat(trace: Trace) -> dict[str, Any]:
    """Conversational layout (``messages`` with roles) of Hugging Face TRL and most fine-tuning services."""
    return {
        "messages": [
            {"role": "user", "content": trace.prompt},
            {"role": "assistant", "content": render_completion(trace)},
        ]
    }


def to_tunix_sft(trace: Trace) -> dict[str, Any]:
    """Supervised layout for google-tunix: Gemma turns as plain text, prompt and completion separate.

    ``text`` is their concatenation; the loss is computed on ``completion`` only.
    """
    prompt = f"<start_of_turn>user\n{trace.prompt}<end_of_turn>\n<start_of_turn>model\n"
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
