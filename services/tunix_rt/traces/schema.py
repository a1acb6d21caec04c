"""The reasoning trace: the format of trace JSONL, its limits and its canonical form."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tunix_rt.contract.digests import canonical_json
from tunix_rt.errors import Violations

TRACE_VERSION = "1.0"
"""One question, at least one step, one answer."""
CONVERSATION_VERSION = "1.1"
"""May have a system message and earlier turns, and need not have steps."""
MAX_PROMPT_CHARS = 50_000
MAX_ANSWER_CHARS = 50_000
MAX_STEPS = 1_000
MAX_STEP_CHARS = 20_000
MAX_LABEL_CHARS = 64
MAX_TURNS = 200

TRACE_FIELDS = {"trace_version", "system", "history", "prompt", "final_answer", "steps", "meta"}
_OF_CONVERSATIONS = ("system", "history")
_STEP_FIELDS = {"i", "type", "content"}
_TURN_FIELDS = {"role", "content"}
USER, ASSISTANT = "user", "assistant"


@dataclass(frozen=True)
class Step:
    """One step: its number (unique in the trace), its kind (``compute``, ``compare``, …) and its text."""

    i: int
    type: str
    content: str


@dataclass(frozen=True)
class Turn:
    """One earlier message: ``role`` is ``user`` or ``assistant``."""

    role: str
    content: str


@dataclass(frozen=True)
class Trace:
    """A question, the steps that lead to its answer, and the answer.

    ``history`` has the turns before the question, user and assistant in turn; ``steps`` may be empty in a conversation.
    """

    prompt: str
    final_answer: str
    steps: tuple[Step, ...]
    trace_version: str = TRACE_VERSION
    meta: dict[str, Any] = field(default_factory=dict)
    system: str = ""
    history: tuple[Turn, ...] = ()

    @property
    def questions(self) -> tuple[str, ...]:
        """Everything that the user says, in order; the last one is the prompt."""
        return (*(turn.content for turn in self.history if turn.role == USER), self.prompt)

    @property
    def asked(self) -> str:
        """What two traces of one question have in common: the questions, a line each."""
        return "\n".join(self.questions) if self.history else self.prompt

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of this trace; ``meta``, ``system`` and ``history`` are left out when empty."""
        document: dict[str, Any] = {
            "trace_version": self.trace_version,
            "prompt": self.prompt,
            "final_answer": self.final_answer,
            "steps": [{"i": s.i, "type": s.type, "content": s.content} for s in self.steps],
        }
        if self.meta:
            document["meta"] = self.meta
        if self.system:
            document["system"] = self.system
        if self.history:
            document["history"] = [{"role": turn.role, "content": turn.content} for turn in self.history]
        return document


def canonical_line(trace: Trace) -> str:
    """Canonical JSON of one trace, without a newline: sorted keys, no white space, unescaped UTF-8."""
    return canonical_json(trace.to_dict())


def parse_traces(lines: Iterable[str]) -> list[Trace]:
    """The traces of JSONL ``lines``; blank lines are skipped.

    Raises `InvalidInput` naming every violation of every line (``line 3.steps[1].content``).
    """
    violations = Violations()
    numbered = read_traces(lines, violations)
    violations.raise_if_any()
    return [trace for _, trace in numbered]


def read_traces(lines: Iterable[str], violations: Violations) -> list[tuple[int, Trace]]:
    """The valid traces of JSONL ``lines`` with their line numbers, from 1. ``violations`` collects the violations of
    the others."""
    numbered = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        trace = parse_line(line, violations.under(f"line {number}"))
        if trace is not None:
            numbered.append((number, trace))
    if not numbered and not violations.found:
        violations.add("jsonl", "has no traces; expected one JSON object per line")
    return numbered


def parse_trace(document: Any, violations: Violations) -> Trace | None:
    """The trace of a decoded JSON value, or None if it has violations, which are added to ``violations``."""
    before = len(violations.found)
    if not isinstance(document, dict):
        violations.add("trace", f"must be a JSON object, not {_json_type(document)}")
        return None
    for name in sorted(document.keys() - TRACE_FIELDS):
        violations.add(name, f"unknown field; expected one of {', '.join(sorted(TRACE_FIELDS))}")
    version = _text(document, "trace_version", MAX_LABEL_CHARS, violations)
    prompt = _text(document, "prompt", MAX_PROMPT_CHARS, violations)
    answer = _text(document, "final_answer", MAX_ANSWER_CHARS, violations)
    conversation = version == CONVERSATION_VERSION
    for name in _OF_CONVERSATIONS:
        given = document.get(name) is not None
        violations.check(conversation or not given, name, f'needs trace_version "{CONVERSATION_VERSION}"')
    system = _text(document, "system", MAX_PROMPT_CHARS, violations) if document.get("system") is not None else ""
    history = _history(document.get("history") or [], violations)
    given_steps = document.get("steps", [] if conversation else None)
    steps = _steps(given_steps, 0 if conversation else 1, violations)
    meta = document.get("meta")
    violations.check(meta is None or isinstance(meta, dict), "meta", "must be an object")
    if len(violations.found) > before:
        return None
    return Trace(prompt, answer, tuple(steps), version, meta or {}, system, tuple(history))


def _history(value: Any, violations: Violations) -> list[Turn]:
    if not isinstance(value, list):
        violations.add("history", f"must be a list, not {_json_type(value)}")
        return []
    violations.check(len(value) <= MAX_TURNS, "history", f"has {len(value)} turns; at most {MAX_TURNS} are allowed")
    violations.check(len(value) % 2 == 0, "history", "must end with a turn of the assistant: the prompt follows it")
    turns: list[Turn] = []
    for position, item in enumerate(value):
        at = violations.under(f"history[{position}]")
        if not isinstance(item, dict):
            violations.add(f"history[{position}]", f"must be an object, not {_json_type(item)}")
            continue
        for name in sorted(item.keys() - _TURN_FIELDS):
            at.add(name, f"unknown field; expected one of {', '.join(sorted(_TURN_FIELDS))}")
        role = ASSISTANT if position % 2 else USER
        at.check(item.get("role") == role, "role", f'must be "{role}": user and assistant take turns')
        turns.append(Turn(role, _text(item, "content", MAX_PROMPT_CHARS, at)))
    return turns


def parse_line(line: str, violations: Violations) -> Trace | None:
    """The trace of one line of JSONL, or None if it has violations, which are added to ``violations``."""
    try:
        document = json.loads(line, parse_constant=_refuse_constant, parse_float=_finite)
        if "\\u" in line:
            # A lone surrogate ("\ud800") decodes as JSON but has no UTF-8 form, so it could never be stored.
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        violations.add("json", f"is not valid JSON ({error})")
        return None
    return parse_trace(document, violations)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    """Of "1e999", which decodes as infinity, JSON cannot spell the value. Raises `ValueError`."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is beyond what a number can hold")
    return value


def _text(document: dict[str, Any], name: str, limit: int, violations: Violations) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        violations.add(name, "is required" if value is None else f"must be a string, not {_json_type(value)}")
        return ""
    violations.check(bool(value.strip()), name, "must not be empty")
    violations.check(len(value) <= limit, name, f"has {len(value)} characters; at most {limit} are allowed")
    return value


def _steps(value: Any, least: int, violations: Violations) -> list[Step]:
    if not isinstance(value, list):
        violations.add("steps", "is required" if value is None else f"must be a list, not {_json_type(value)}")
        return []
    allowed = least <= len(value) <= MAX_STEPS
    violations.check(allowed, "steps", f"has {len(value)} steps; {least} to {MAX_STEPS} are allowed")
    steps: list[Step] = []
    seen: set[int] = set()
    for position, item in enumerate(value):
        at = violations.under(f"steps[{position}]")
        if not isinstance(item, dict):
            violations.add(f"steps[{position}]", f"must be an object, not {_json_type(item)}")
            continue
        for name in sorted(item.keys() - _STEP_FIELDS):
            at.add(name, f"unknown field; expected one of {', '.join(sorted(_STEP_FIELDS))}")
        number = item.get("i")
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**31:
            at.add("i", "must be an integer of at least 0")
            number = -1
        elif number in seen:
            at.add("i", f"step number {number} is used twice")
        seen.add(number)
        kind = _text(item, "type", MAX_LABEL_CHARS, at)
        steps.append(Step(i=number, type=kind, content=_text(item, "content", MAX_STEP_CHARS, at)))
    return steps


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
