"""Finding the reasoning and the final answer in what a model wrote.

Owns the two tags, the rules of a well-formed completion, and what is taken for the answer when there is no tag. Knows
nothing of whether an answer is right.

Which answer counts:

1. The last ``<answer>…</answer>`` pair that holds no other ``<answer>``; else the text after the last ``<answer>``
   that was never closed. Tags are found in any letter case, inside code fences and inside one another.
2. Without an answer tag, base models are still judged on what they say: the text after the last "answer:" or
   "answer is", else the last ``\\boxed{…}``, else the last non-blank line of what follows the reasoning. Format
   compliance is 0 all the same.
3. A completion whose ``<reasoning>`` was opened and never closed (cut off, or lost in thought) has no answer at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

_TAG = re.compile(r"<\s*(/?)\s*(reasoning|answer)\s*>", re.IGNORECASE)
_MARKER = re.compile(r"\banswer\s*(?:is|=|:)\s*:?", re.IGNORECASE)
_FENCE_LINE = re.compile(r"^\s*(?:```|~~~)[\w-]*\s*$")
# Beyond this a completion is not looked at for fallbacks: no model is asked for so much, and patterns stay fast.
_FALLBACK_CHARS = 20_000


class AnswerSource(StrEnum):
    """Where the answer was found."""

    TAG = "tag"
    UNCLOSED_TAG = "unclosed_tag"
    MARKER = "marker"
    BOXED = "boxed"
    LAST_LINE = "last_line"
    NONE = "none"


@dataclass(frozen=True)
class Extraction:
    """The parts of a completion; ``reasoning`` and ``answer`` are None where there is none, and never only white
    space."""

    reasoning: str | None
    answer: str | None
    well_formed: bool
    source: AnswerSource
    problems: tuple[str, ...]
    """Why it is not well formed, for people; empty when it is."""


@dataclass(frozen=True)
class _Tag:
    name: str
    closing: bool
    start: int
    end: int
    literal: bool


def extract(text: str) -> Extraction:
    """The reasoning and the answer of ``text`` by the rules of this module.

    ``well_formed`` is true for exactly one ``<reasoning>…</reasoning>`` followed by exactly one
    ``<answer>…</answer>``, both lower case and not blank, nothing but white space before, between and after.
    """
    tags = [
        _Tag(m[2].lower(), bool(m[1]), m.start(), m.end(), m[0] in (f"<{m[1]}reasoning>", f"<{m[1]}answer>"))
        for m in _TAG.finditer(text)
    ]
    reasoning = _reasoning(text, tags)
    answer, source = _answer(text, tags)
    problems = _format_problems(text, tags)
    return Extraction(reasoning, answer, not problems, source, tuple(problems))


def _format_problems(text: str, tags: list[_Tag]) -> list[str]:
    kinds = [("reasoning", False), ("reasoning", True), ("answer", False), ("answer", True)]
    found = [(tag.name, tag.closing) for tag in tags]
    problems = [
        f"{found.count((name, closing))} <{'/' if closing else ''}{name}> tags, not 1"
        for name, closing in kinds
        if found.count((name, closing)) != 1
    ]
    if problems:
        return problems
    if not all(tag.literal for tag in tags):
        return ["tags are not written <reasoning>, </reasoning>, <answer>, </answer>"]
    if found != kinds:
        return ["tags are not in order: reasoning first, then the answer, neither inside the other"]
    spans = ((0, tags[0].start), (tags[1].end, tags[2].start), (tags[3].end, len(text)))
    for (start, end), place in zip(spans, ("before", "between", "after"), strict=True):
        if text[start:end].strip():
            problems.append(f"text {place} the tagged parts")
    if not text[tags[0].end : tags[1].start].strip():
        problems.append("the reasoning is empty")
    if not text[tags[2].end : tags[3].start].strip():
        problems.append("the answer is empty")
    return problems


def _reasoning(text: str, tags: list[_Tag]) -> str | None:
    """From the first opening tag to its close; unclosed, to the answer's tag or the end."""
    opening = next((tag for tag in tags if tag.name == "reasoning" and not tag.closing), None)
    if opening is None:
        return None
    closings = [tag for tag in tags if tag.name == "reasoning" and tag.closing and tag.start >= opening.end]
    if closings:
        end = closings[-1].start
    else:
        end = next(
            (t.start for t in tags if t.name == "answer" and not t.closing and t.start >= opening.end), len(text)
        )
    return _TAG.sub("", text[opening.end : end]).strip() or None


def _answer(text: str, tags: list[_Tag]) -> tuple[str | None, AnswerSource]:
    answers = [tag for tag in tags if tag.name == "answer"]
    pairs = [(opening, closing) for opening, closing in pairwise(answers) if not opening.closing and closing.closing]
    if pairs:
        opening, closing = pairs[-1]
        return _TAG.sub("", text[opening.end : closing.start]).strip() or None, AnswerSource.TAG
    unclosed = [tag for tag in answers if not tag.closing]
    if unclosed:
        return _TAG.sub("", text[unclosed[-1].end :]).strip() or None, AnswerSource.UNCLOSED_TAG
    return _untagged_answer(text, tags)


def _untagged_answer(text: str, tags: list[_Tag]) -> tuple[str | None, AnswerSource]:
    reasoning = [tag for tag in tags if tag.name == "reasoning"]
    if reasoning and not reasoning[-1].closing:
        return None, AnswerSource.NONE
    rest = text[reasoning[-1].end :] if reasoning else text
    rest = _TAG.sub("\n", rest[-_FALLBACK_CHARS:])
    lines = [line for line in rest.splitlines() if line.strip() and not _FENCE_LINE.match(line)]
    rest = "\n".join(lines)
    markers = list(_MARKER.finditer(rest))
    if markers:
        after = rest[markers[-1].end() :].strip().splitlines()
        if after:
            return after[0].strip(), AnswerSource.MARKER
    boxed = last_boxed(rest)
    if boxed:
        return boxed, AnswerSource.BOXED
    if lines:
        return lines[-1].strip(), AnswerSource.LAST_LINE
    return None, AnswerSource.NONE


def last_boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{…}`` with balanced braces, or None."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for at in range(start + len("\\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : at].strip() or None
    return None
