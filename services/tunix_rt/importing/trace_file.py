"""Other people's reasoning as trace JSONL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunix_rt.errors import Violations
from tunix_rt.importing.completions import split_completion, steps_of, without_annotations
from tunix_rt.importing.conversion import Options, Outcome, convert, read_example
from tunix_rt.importing.examples import Example
from tunix_rt.importing.formats import Format
from tunix_rt.importing.rows import RowProblem
from tunix_rt.traces.schema import CONVERSATION_VERSION, TRACE_VERSION, canonical_line, parse_trace

STEP_TYPE = "text"


def import_traces(
    path: Path,
    write: Callable[[str], object],
    options: Options,
    *,
    answer_as_step: bool = False,
) -> Outcome:
    """Give ``write`` a line of trace JSONL for each row of ``path``.

    Turns and system messages are kept unless ``options`` join them. ``answer_as_step``: a row without reasoning gets
    the answer as its only step; otherwise it has none. Raises `UnreadableFile`.
    """
    options = replace(options, reading=replace(options.reading, keep_turns=not options.reading.join_turns))

    def line(found: Format | None, values: dict[str, Any], number: int) -> str:
        if found is not None and found.name == "trace":
            return _valid(dict(values))
        return _valid(_document(read_example(found, values, options), options, answer_as_step))

    return convert(path, options, line, lambda text: write(text + "\n"))


def _document(example: Example, options: Options, answer_as_step: bool) -> dict[str, Any]:
    reasoning, answer = example.reasoning, example.answer
    if example.completion:
        reasoning, answer = split_completion(example.completion)
        if not options.reading.keep_annotations:
            reasoning = without_annotations(reasoning)
    if not answer.strip():
        raise RowProblem("has no answer", "nothing follows the reasoning")
    steps = steps_of(reasoning) or (steps_of(answer) if answer_as_step else [])
    meta = {name: value for name, value in (("category", example.category), ("source_id", example.id)) if value}
    return {
        "trace_version": TRACE_VERSION if steps and not (example.system or example.history) else CONVERSATION_VERSION,
        "prompt": example.prompt,
        "final_answer": answer.strip(),
        "steps": [{"i": number, "type": STEP_TYPE, "content": step} for number, step in enumerate(steps, start=1)],
        **({"meta": meta} if meta else {}),
        **({"system": example.system} if example.system else {}),
        **({"history": [{"role": role, "content": text} for role, text in example.history]} if example.history else {}),
    }


def _valid(document: dict[str, Any]) -> str:
    violations = Violations()
    trace = parse_trace(document, violations)
    if trace is None:
        first = violations.found[0]
        raise RowProblem(f"its {first.field} is not valid", first.description)
    return canonical_line(trace)
