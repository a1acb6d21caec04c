"""The reasoning and the final answer in a text that was written by a person or a model.

The notations of the field, in this order: a thought in tags (``<think>``, ``<thinking>``, ``<reasoning>``, ``◁think▷``,
or a lone closing one), then in the rest ``<answer>…</answer>``, GSM8K's ``####``, MATH's last ``\\boxed{…}``. Whatever
is not the answer is reasoning, so that no word is lost.
"""

from __future__ import annotations

import re

from tunix_rt.importing.rows import RowProblem
from tunix_rt.traces.schema import MAX_STEP_CHARS, MAX_STEPS

_THOUGHT = re.compile(r"<(/?)(think|thinking|thought|reasoning)>|◁(/?)think▷", re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_HASHES = re.compile(r"^[ \t]*####[ \t]*(.*)$", re.MULTILINE)
# GSM8K's calculator annotations: 48/2 = <<48/2=24>>24.
_ANNOTATION = re.compile(r"<<[^<>\n]*>>")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def without_annotations(text: str) -> str:
    """``text`` without GSM8K's calculator annotations."""
    return _ANNOTATION.sub("", text)


def split_completion(text: str) -> tuple[str, str]:
    """Reasoning ("" if there is none) and final answer. Raises `RowProblem` for a thought or an answer
    without an end."""
    thought, rest = _thought(text)
    answer, around = _answer(rest)
    reasoning = "\n".join(part.strip("\n") for part in (thought, around) if part.strip())
    return reasoning, answer.strip()


def _thought(text: str) -> tuple[str, str]:
    """What stands in thoughts or before them, and what follows."""
    tags = list(_THOUGHT.finditer(text))
    if not tags:
        return "", text
    last = tags[-1]
    if not (last[1] or last[3]):
        raise RowProblem("its thought is cut off", f"{last[0]} has no end")
    return "\n".join(part for part in _THOUGHT.split(text[: last.start()])[::4] if part.strip()), text[last.end() :]


def _answer(text: str) -> tuple[str, str]:
    """The final answer, and the text around it that is reasoning."""
    tagged = list(_ANSWER.finditer(text))
    if tagged:
        last = tagged[-1]
        return last[1], f"{text[: last.start()]}{text[last.end() :]}"
    if "<answer>" in text.lower():
        raise RowProblem("its answer is cut off", "<answer> has no end")
    marked = list(_HASHES.finditer(text))
    if marked and marked[-1][1].strip():
        last = marked[-1]
        return last[1], f"{text[: last.start()]}{text[last.end() :]}"
    boxed = last_boxed(text)
    return (boxed, text) if boxed is not None else (text, "")


def last_boxed(text: str) -> str | None:
    """What is in the last ``\\boxed{…}`` (or ``\\boxed 5``) that is whole and not blank; None if there is none."""
    for found in reversed(list(_BOX.finditer(text))[-20:]):
        content = _braced(text, found.end())
        if content is not None and content.strip():
            return content
    return None


def _braced(text: str, start: int) -> str | None:
    if text[start : start + 1] != "{":
        bare = re.compile(r"[^\s$.,]+").match(text, start)
        return bare[0] if bare else None
    depth = 0
    for mark in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth == 0:
            return text[start + 1 : mark.start()]
    return None


def steps_of(reasoning: str) -> list[str]:
    """The lines of ``reasoning`` that are not blank, as steps: several lines a step where there are more than a trace
    may have. Raises `RowProblem` for a line longer than a step."""
    lines = [line.rstrip() for line in reasoning.splitlines() if line.strip()]
    size = -(-len(lines) // MAX_STEPS) or 1
    steps = ["\n".join(lines[start : start + size]) for start in range(0, len(lines), size)]
    longest = max(map(len, steps), default=0)
    if longest > MAX_STEP_CHARS:
        raise RowProblem(f"a step has more than {MAX_STEP_CHARS} characters", f"{longest}, in one line")
    return steps
