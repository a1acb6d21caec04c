"""The thought of a completion: what a model says to itself before it answers.

A thought is marked by tags (`tags`). What is inside is never the answer. A closing tag without an opening one ends a
thought that the prompt's template has opened. A thought that is never closed was cut off, except when the completion
ends in a closed answer: then it ends there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from tunix_rt.quality.tags import Part, Tag
from tunix_rt.quality.turns import is_remark, without_special_tokens


@dataclass(frozen=True)
class Thoughts:
    """``text``: the contents of the thoughts without tags, None if blank. ``rest``: the completion without them.

    ``cut_off``: the last thought was never closed, so there is no answer.
    """

    text: str | None
    rest: str
    cut_off: bool


def separate(text: str, tags: Sequence[Tag], *, truncated: bool) -> Thoughts:
    """The thoughts of ``text`` and what is left. ``truncated``: the token limit ended the completion."""
    spans, cut_off = _spans(text, tags, truncated)
    pieces, contents, at = [], [], 0
    for span in spans:
        pieces.append(text[at : span.outer_start])
        contents.append(_without_tags(text, tags, span))
        at = span.outer_end
    pieces.append(text[at:])
    thought = "\n".join(content for content in contents if content)
    return Thoughts(thought or None, "\n".join(pieces) if spans else text, cut_off)


@dataclass(frozen=True)
class _Span:
    """A thought: its content, and the content with the tags around it."""

    start: int
    end: int
    outer_start: int
    outer_end: int


def _spans(text: str, tags: Sequence[Tag], truncated: bool) -> tuple[list[_Span], bool]:
    spans: list[_Span] = []
    opened: Tag | None = None
    depth = answered = 0
    written = len(text.rstrip())
    for tag in tags:
        if tag.part is Part.ANSWER and tag.closing and opened is None:
            answered = tag.end
        if tag.part is not Part.THOUGHT:
            continue
        if not tag.closing:
            opened = opened or tag
            depth = 1 if tag.resets else depth + 1
        elif opened is not None:
            depth = 0 if tag.resets else depth - 1
            if depth == 0:
                spans.append(_Span(opened.end, tag.start, opened.start, tag.end))
                opened = None
        elif not spans or (answered <= spans[-1].outer_end and tag.end < written):
            # The first ends a thought that the prompt opened; a later one ends a thought that quoted the tag before.
            start = spans[-1].outer_end if spans else 0
            spans.append(_Span(start, tag.start, start, tag.end))
    if opened is None:
        return spans, False
    closing = next((tag for tag in reversed(tags) if tag.part is Part.THOUGHT and tag.closing), None)
    if closing is not None and closing.start >= opened.end:
        return [*spans, _Span(opened.end, closing.start, opened.start, closing.end)], False
    end = None if truncated else _final_answer(text, tags, opened)
    cut = len(text) if end is None else end
    return [*spans, _Span(opened.end, cut, opened.start, cut)], end is None


def _final_answer(text: str, tags: Sequence[Tag], opened: Tag) -> int | None:
    """Where the closed answer begins with which the completion ends, if it ends so."""
    answers = [tag for tag in tags if tag.part is Part.ANSWER and tag.start >= opened.end]
    if len(answers) < 2 or answers[-2].closing or not answers[-1].closing:
        return None
    after = without_special_tokens(text[answers[-1].end :]).strip("`~ \n")
    return answers[-2].start if not after or is_remark(after) else None


def _without_tags(text: str, tags: Sequence[Tag], span: _Span) -> str:
    pieces, at = [], span.start
    for index in range(bisect_left(tags, span.start, key=lambda tag: tag.start), len(tags)):
        if tags[index].start >= span.end:
            break
        pieces.append(text[at : tags[index].start])
        at = tags[index].end
    return without_special_tokens("".join([*pieces, text[at : span.end]])).strip()
