"""Extracts the reasoning and the final answer from a completion.

Which answer counts:

1. The last ``<answer>…</answer>`` pair that contains no other ``<answer>`` and is not blank; else the text after the
   last unclosed ``<answer>``. Tags are found in any letter case, with attributes, in full-width brackets, inside code
   fences and inside one another. Reasoning inside an answer is not part of it.
2. Without an answer tag, so that base models can be scored: the text after the last "answer:" or "answer is" (or
   "Antwort:", "答案：" and the like), or the last ``\\boxed{…}`` if it comes later, else the last non-blank line after
   the reasoning. Format compliance is 0.
3. A completion without answer tag whose ``<reasoning>`` was never closed has no answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

_ATTRIBUTES = r"""(?:\s+[\w:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>/]+))*"""
# A slash on either side of the name closes: "<answer>42<answer/>" has a misspelt closing tag.
_TAG = re.compile(rf"[<＜]\s*([/／]?)\s*(reasoning|answer){_ATTRIBUTES}\s*([/／]?)\s*[>＞]", re.IGNORECASE)
_MARKER = re.compile(
    r"\banswer\**\s*(?:is|=|[:：])\s*[:：]?"
    r"|(?:\b(?:antwort|réponse|respuesta|risposta|resposta|antwoord|svar|odpowiedź|ответ|відповідь)|答案|答え|回答|정답|답|उत्तर|الجواب)"
    r"\**\s*(?:[:：=]|是|は|\b(?:ist|est|es|è|é|is)\b)\s*[:：]?",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
_BRACE = re.compile(r"[{}]")
_MAX_BOXES = 50
_FENCE_LINE = re.compile(r"^\s*(?:```|~~~)[\w-]*\s*$")
# Fallbacks search only the last characters of a completion: longer ones are not requested, and patterns stay fast.
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
    """The parts of a completion. ``reasoning`` and ``answer`` are None if absent, and never blank."""

    reasoning: str | None
    answer: str | None
    well_formed: bool
    source: AnswerSource
    problems: tuple[str, ...]
    """Why it is not well formed; empty if it is."""


@dataclass(frozen=True)
class _Tag:
    name: str
    closing: bool
    start: int
    end: int
    literal: bool


def extract(text: str) -> Extraction:
    """The reasoning and the answer of ``text`` by the rules of this module.

    ``well_formed``: exactly one ``<reasoning>…</reasoning>`` followed by exactly one ``<answer>…</answer>``, both in
    lower case and not blank, with only white space before, between and after.
    """
    tags = [
        _Tag(m[2].lower(), bool(m[1] or m[3]), m.start(), m.end(), m[0] in (f"<{m[1]}reasoning>", f"<{m[1]}answer>"))
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
    """The contents of the outermost reasoning blocks without tags, joined by newlines."""
    contents = [text[start:end] for start, end in _reasoning_spans(text, tags)]
    return "\n".join(part for content in contents if (part := _TAG.sub("", content).strip())) or None


def _reasoning_spans(text: str, tags: list[_Tag]) -> list[tuple[int, int]]:
    """Start and end of the contents of the outermost reasoning blocks.

    An unclosed block ends at the last closing tag after it, else at the answer tag, else at the end of the text.
    """
    spans: list[tuple[int, int]] = []
    depth = start = 0
    for tag in (tag for tag in tags if tag.name == "reasoning"):
        if not tag.closing:
            start = tag.end if depth == 0 else start
            depth += 1
        elif depth > 0:
            depth -= 1
            if depth == 0:
                spans.append((start, tag.start))
    if depth > 0:
        later = [tag for tag in tags if tag.start >= start]
        closings = [tag.start for tag in later if tag.name == "reasoning" and tag.closing]
        answers = [tag.start for tag in later if tag.name == "answer" and not tag.closing]
        spans.append((start, closings[-1] if closings else next(iter(answers), len(text))))
    return spans


def _answer(text: str, tags: list[_Tag]) -> tuple[str | None, AnswerSource]:
    answers = [tag for tag in tags if tag.name == "answer"]
    pairs = [(opening, closing) for opening, closing in pairwise(answers) if not opening.closing and closing.closing]
    if pairs:
        contents = [_content(text[opening.end : closing.start]) for opening, closing in pairs]
        return next((content for content in reversed(contents) if content), None), AnswerSource.TAG
    unclosed = [tag for tag in answers if not tag.closing]
    if unclosed:
        return _content(text[unclosed[-1].end :]), AnswerSource.UNCLOSED_TAG
    return _untagged_answer(text, tags)


def _content(text: str) -> str | None:
    """An answer's text without tags and reasoning inside it."""
    tags = [m for m in _TAG.finditer(text) if m[2].lower() == "reasoning"]
    if len(tags) >= 2 and not (tags[0][1] or tags[0][3]) and (tags[-1][1] or tags[-1][3]):
        text = text[: tags[0].start()] + text[tags[-1].end() :]
    return _TAG.sub("", text).strip() or None


def _untagged_answer(text: str, tags: list[_Tag]) -> tuple[str | None, AnswerSource]:
    reasoning = [tag for tag in tags if tag.name == "reasoning"]
    if reasoning and not reasoning[-1].closing:
        return None, AnswerSource.NONE
    rest = text[reasoning[-1].end :] if reasoning else text
    rest = _TAG.sub("\n", rest[-_FALLBACK_CHARS:])
    lines = [line for line in rest.splitlines() if line.strip() and not _FENCE_LINE.match(line)]
    rest = "\n".join(lines)
    marked = _after_last_marker(rest)
    box = _last_box(rest)
    if box is not None and (marked is None or box[0] >= marked[0]):
        return rest[box[1] : box[2]].strip(), AnswerSource.BOXED
    if marked is not None:
        return marked[1], AnswerSource.MARKER
    if lines:
        return lines[-1].strip(), AnswerSource.LAST_LINE
    return None, AnswerSource.NONE


def _after_last_marker(text: str) -> tuple[int, str] | None:
    """The end of the last marker, and the first non-blank line after it."""
    markers = list(_MARKER.finditer(text))
    after = text[markers[-1].end() :].strip().splitlines() if markers else []
    stated = [said for line in after if (said := _unpaired_emphasis(line.strip()))]
    return (markers[-1].end(), stated[0]) if stated else None


def _unpaired_emphasis(text: str) -> str:
    """``text`` without an unpaired bold mark left over from the marker's own emphasis."""
    if text.count("**") % 2:
        text = text.removeprefix("**") if text.startswith("**") else text.removesuffix("**")
    return text.strip()


def last_boxed(text: str) -> str | None:
    """The content of the last ``\\boxed{…}`` or ``\\fbox{…}`` with balanced braces, or None."""
    box = _last_box(text)
    return None if box is None else text[box[1] : box[2]].strip()


def only_boxed(text: str) -> str | None:
    """The content of a box that makes up all of ``text``, except dollar signs and a full stop around it; else None.

    Of boxes inside one another it is the content of the innermost that is not blank. Linear in the length of ``text``.
    """
    opening = _BOX.match(text, _after_dollars(text, 0))
    if opening is None:
        return None
    partners = _brace_partners(text)
    found, end = None, len(text)
    while opening is not None:
        start, close = opening.end(), partners.get(opening.end() - 1)
        if close is None or text[close + 1 : end].strip("$. \n"):
            break
        first, end = start, close
        while first < end and text[first].isspace():
            first += 1
        while end > first and text[end - 1].isspace():
            end -= 1
        if first == end:
            break
        found = first, end
        opening = _BOX.match(text, _after_dollars(text, first))
    return None if found is None else text[found[0] : found[1]]


def _after_dollars(text: str, at: int) -> int:
    while at < len(text) and text[at] in "$ \n":
        at += 1
    return at


def _brace_partners(text: str) -> dict[int, int]:
    """Position of the closing brace by that of its opening brace."""
    partners: dict[int, int] = {}
    open_braces: list[int] = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            open_braces.append(brace.start())
        elif open_braces:
            partners[open_braces.pop()] = brace.start()
    return partners


def _last_box(text: str) -> tuple[int, int, int] | None:
    """Where the last closed box that is not blank begins, and where its content begins and ends."""
    for opening in reversed(list(_BOX.finditer(text))[-_MAX_BOXES:]):
        end = _closing_brace(text, opening.end())
        if end is not None and text[opening.end() : end].strip():
            return opening.start(), opening.end(), end
    return None


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.start()
    return None
