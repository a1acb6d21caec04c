"""Extracts the thought and the final answer from a completion.

Which answer counts:

1. Nothing inside a thought is the answer (`thoughts`); a completion that was cut off inside its thought has none.
2. Only the first reply is read: up to the token that ends the turn, or the next question that a base model writes for
   itself. Special tokens are no text (`turns`).
3. The last ``<answer>…</answer>`` (or ``<final_answer>``, ``<ans>``) that contains no other and is not blank; else the
   last ``<solution>``; else the text after the last unclosed ``<answer>``, unless the token limit cut it. Of a
   sentence such as "The answer is 42" in the tags the statement counts.
4. Without tags the last statement that answers (`answer_statements`): "the answer is …", "Answer: …", a box, "#### …".
   Or the value of "answer" in a JSON object with which the completion ends.
5. Else the last line that is not a remark (`last_lines`); of lists and sets the whole list. Format compliance is 0 for
   4 and 5.

A number at the very end that the token limit may have cut is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from tunix_rt.quality.answer_statements import last_statement, leading_statement
from tunix_rt.quality.boxes import closed_boxes, has_open_box, last_boxed
from tunix_rt.quality.completion_format import format_problems
from tunix_rt.quality.json_answers import answer_of_json
from tunix_rt.quality.last_lines import last_line, without_bullet
from tunix_rt.quality.tags import THOUGHT_NAMES, Part, Tag, tags_of
from tunix_rt.quality.thoughts import separate
from tunix_rt.quality.turns import first_question, first_turn, without_closing_remarks
from tunix_rt.quality.wrappers import without_wrappers

__all__ = ["AnswerSource", "Extraction", "extract", "last_boxed"]

_FENCE_LINE = re.compile(r"^\s{0,20}(?:```|~~~)[\w-]{0,40}\s{0,20}$")
_CUT_TAG = re.compile(r"<[/／]?\s?[a-z_]{0,12}$", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"(?:\.\.\.|…|\[?(?:your |the |final )*answer(?: goes)?(?: here)?\]?)", re.IGNORECASE)
# Around a box that is the answer of its sentence.
_BEFORE_BOX = re.compile(
    r"(?!.*(?:\b(?:or|not|either|neither|nor|between|than|maybe|perhaps)\b|n't|[<>≤≥≠≈~±?])).*", re.DOTALL
)
_OPERATOR_END = re.compile(r"[-+*/^×÷·({,\d\w}]\s*$|\\(?:times|cdot|div|frac|sqrt|le|ge|ne|pm|approx)\s*$")
_WORD_END = re.compile(r"(?:^|(?<![\\\w])[^\W\d]{2,}|[=:：,.]|\\?[\[(])\s*$")
_AFTER_BOX = re.compile(r"[\s$.!。)\\\]]*")
# Without tags only the end of a completion is searched: longer ones are not requested.
_FALLBACK_CHARS = 100_000
_MAX_REDUCED = 5_000
_FEW = 20
# Of these types a list may be the answer; labels and yes or no are whole wherever the limit cuts.
_LISTS = frozenset(["set", "choice", "choices"])
_WHOLE = frozenset(["choice", "choices", "boolean"])


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
    """The parts of a completion. ``reasoning`` (the thought) and ``answer`` are None if absent, and never blank."""

    reasoning: str | None
    answer: str | None
    well_formed: bool
    source: AnswerSource
    problems: tuple[str, ...]
    """Why it is not well formed; empty if it is."""


def extract(
    text: str, *, thought_tags: Sequence[str] = THOUGHT_NAMES, truncated: bool = False, answer_type: str = ""
) -> Extraction:
    """The thought and the answer of ``text`` by the rules of this module.

    ``thought_tags`` are the names of the tags around a thought. ``truncated``: the token limit ended the completion.
    ``answer_type`` is the item's: a list at the end may be one answer, and what may go on behind the limit depends on
    it.
    ``well_formed``: exactly one thought followed by exactly one ``<answer>…</answer>``, see `completion_format`.
    """
    tags = tags_of(text, thought_tags)
    thoughts = separate(text, tags, truncated=truncated)
    problems = format_problems(text, tags)
    answer, source = None, AnswerSource.NONE
    if not thoughts.cut_off:
        answer, source = _answer(thoughts.rest, thought_tags, truncated, answer_type)
    return Extraction(thoughts.text, answer, not problems, source, tuple(problems))


def _answer(
    rest: str, thought_tags: Sequence[str], truncated: bool, answer_type: str
) -> tuple[str | None, AnswerSource]:
    turn, ended = first_turn(rest)
    turn = without_wrappers(turn)
    reply = first_question(turn)
    truncated = truncated and not ended and turn.endswith(reply[-_FEW:])
    tags = [tag for tag in tags_of(reply, thought_tags) if tag.part is not Part.THOUGHT]
    answers = [tag for tag in tags if tag.part is Part.ANSWER]
    contents = _contents(reply, answers)
    if contents:
        return next((_stated(content) for content in reversed(contents) if content), None), AnswerSource.TAG
    solutions = [content for content in _contents(reply, [tag for tag in tags if tag.part is Part.SOLUTION]) if content]
    if solutions:
        return _untagged(solutions[-1], False, answer_type)[0], AnswerSource.TAG
    unclosed = [tag for tag in answers if not tag.closing]
    if unclosed:
        said = _without_tags(reply[unclosed[-1].end :], tags, unclosed[-1].end)
        whole = _CUT_TAG.sub("", said)
        return (None if truncated and whole == said else _stated(whole.strip()) or None), AnswerSource.UNCLOSED_TAG
    return _untagged(_without_tags(reply, tags, 0, "\n"), truncated, answer_type)


def _contents(text: str, tags: Sequence[Tag]) -> list[str]:
    """What is between each opening tag and the closing tag next to it; "" for a placeholder."""
    pairs = [(opening, closing) for opening, closing in pairwise(tags) if not opening.closing and closing.closing]
    contents = [text[opening.end : closing.start].strip() for opening, closing in pairs]
    return ["" if _PLACEHOLDER.fullmatch(content) else content for content in contents]


def _without_tags(text: str, tags: Sequence[Tag], offset: int, instead: str = "") -> str:
    """``text``, which begins at ``offset`` of what ``tags`` were found in, without tags."""
    pieces, at = [], 0
    for tag in tags:
        if tag.start >= offset:
            pieces.append(text[at : tag.start - offset])
            at = tag.end - offset
    return instead.join([*pieces, text[at:]])


def _stated(content: str) -> str:
    """What the content of an answer tag states: of "The answer is 42" or "It is \\boxed{42}." the 42."""
    if len(content) > _MAX_REDUCED:
        return content
    if (value := answer_of_json(content)) is not None:
        return value
    said = leading_statement(content) or content
    said = _box_of_sentence(said) or said
    return said if "\n" in said else without_bullet(said)


def _box_of_sentence(text: str) -> str | None:
    """The content of the only box in a sentence that says nothing else of it, or None."""
    boxes = closed_boxes(text)
    if len(boxes) != 1:
        return None
    before, after = text[: boxes[0].start].rstrip(" $"), text[boxes[0].end :]
    if not before.strip("\\([ ") or not _AFTER_BOX.fullmatch(after):
        return boxes[0].content(text) if _AFTER_BOX.fullmatch(after) and not before.strip("\\([ ") else None
    bare = re.sub(r"\\[(\[]$", "", before).rstrip(" $")
    return boxes[0].content(text) if _BEFORE_BOX.fullmatch(bare) and _WORD_END.search(bare) else None


def _untagged(text: str, truncated: bool, answer_type: str) -> tuple[str | None, AnswerSource]:
    written = without_closing_remarks(text[-_FALLBACK_CHARS:].splitlines())
    if (value := answer_of_json("\n".join(written))) is not None:
        return value or None, AnswerSource.MARKER if value else AnswerSource.NONE
    lines = [line for line in written if not _FENCE_LINE.match(line)]
    # What follows a line break is another line: there the limit cut nothing.
    truncated = truncated and not text.endswith("\n")
    text = "\n".join(lines)
    if truncated and has_open_box(text):
        return None, AnswerSource.NONE
    statement = last_statement(text)
    if statement is not None:
        source = AnswerSource.BOXED if statement.boxed else AnswerSource.MARKER
        found = statement.answer
    else:
        stripped = [line.strip() for line in lines if line.strip()]
        source = AnswerSource.LAST_LINE
        found = last_line(stripped, several=answer_type in _LISTS) or ""
    if truncated and source is not AnswerSource.BOXED and answer_type not in _WHOLE and _may_go_on(text, found):
        found = ""
    return found or None, source if found else AnswerSource.NONE


def _may_go_on(text: str, answer: str) -> bool:
    """Whether the token limit may have cut digits of the answer: 12 of 125."""
    return text[-1:].isdigit() and answer[-1:].isdigit() and text.endswith(answer[-_FEW:])
