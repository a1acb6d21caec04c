"""Tags around the parts of a completion: ``<think>``, ``</answer>``, ``◁think▷``, ``[THINK]``, special tokens.

Tags are found in any letter case, with attributes, in full-width brackets and with a misplaced slash
("<answer>42<answer/>"). Scanning takes linear time: no quantifier gives back what it took.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

THOUGHT_NAMES = (
    "reasoning",
    "think",
    "thinking",
    "thought",
    "thoughts",
    "scratchpad",
    "analysis",
    "reflection",
    "cot",
    "antthinking",
    "seed:think",
)
"""Names that mark a thought unless an item says otherwise (``meta.thought_tags``)."""

_ANSWER_NAMES = ("answer", "ans", "final_answer", "final-answer", "finalanswer")
# These may hold a whole solution, of which the answer is what it states.
_SOLUTION_NAMES = ("solution", "final_solution")

_ATTRIBUTES = r"""(?:\s++[\w:-]++\s*+=\s*+(?:"[^"<>]*+"|'[^'<>]*+'|[^\s"'<>/]++))*+"""
_CLOSED_BY = {"<": ">", "＜": "＞", "◁": "▷", "[": "]"}
# No tag is without one of these.
_MARK = re.compile(r"[<＜◁\[]|analysis|assistant")
# Begin and end of a thought as special tokens. In a channel other than "final" a model speaks to itself or to tools.
_TOKENS = (
    r"<\|(?P<tokens_open>begin_of_thought|start_thinking)\|>"
    r"|<\|(?P<tokens_close>end_of_thought|end_thinking)\|>"
    r"|<\|(?P<solution_open>begin_of_solution)\|>|<\|(?P<solution_close>end_of_solution)\|>"
    r"|<\|channel\|>\s*+(?P<channel>analysis|commentary|final)\b[^<]{0,100}+<\|message\|>"
    # The same where a server took the special tokens away: "analysisWe need …assistantfinalThe answer is …".
    r"|(?-i:(?P<bare>\A\s{0,9}analysis(?=[A-Z])|assistant(?P<bare_channel>analysis|commentary|final)))"
)


class Part(StrEnum):
    """The part of a completion that a tag marks."""

    THOUGHT = "thought"
    ANSWER = "answer"
    SOLUTION = "solution"


@dataclass(frozen=True)
class Tag:
    """A tag at ``start`` to ``end``. ``literal``: written exactly ``<name>`` or ``</name>``. ``resets``: begins or ends
    a channel, whatever was open before."""

    part: Part
    name: str
    closing: bool
    start: int
    end: int
    literal: bool
    resets: bool = False


def tags_of(text: str, thought_names: Sequence[str] = THOUGHT_NAMES) -> list[Tag]:
    """The tags of ``text`` in order. In square brackets only upper case counts, and only at the beginning of the text
    or if the tag is closed somewhere."""
    if not _MARK.search(text):
        return []
    pattern, parts = _scanner(tuple(thought_names))
    found = [tag for match in pattern.finditer(text) if (tag := _tag(match, parts)) is not None]
    if not text.lstrip().startswith("analysis"):
        found = [tag for tag in found if tag.name != "bare channel"]
    closed = {tag.name for tag in found if tag.closing and text[tag.start] == "["}
    first = len(text) - len(text.lstrip())
    return [tag for tag in found if text[tag.start] != "[" or tag.name in closed or tag.start == first]


def is_tag_name(name: object) -> bool:
    """Whether ``name`` can be that of a thought's tag: up to 40 letters, digits, ``_``, ``-`` and ``:``, not that of an
    answer."""
    if not isinstance(name, str) or name.lower() in _ANSWER_NAMES + _SOLUTION_NAMES:
        return False
    return re.fullmatch(r"[A-Za-z][\w:-]{0,39}", name) is not None


def _tag(match: re.Match[str], parts: dict[str, Part]) -> Tag | None:
    start, end = match.span()
    if match["name"] is None:
        return _special(match, start, end, Part.THOUGHT in parts.values())
    if match["right"] != _CLOSED_BY[match["left"]] and {match["left"], match["right"]} - set("<>＜＞"):
        return None
    name = match["name"].lower()
    if match["left"] == "[" and not match["name"].isupper():
        return None
    closing = bool(match["before"] or match["after"])
    literal = match[0] in (f"<{name}>", f"</{name}>")
    return Tag(parts[name], name, closing, start, end, literal)


def _special(match: re.Match[str], start: int, end: int, thoughts: bool) -> Tag | None:
    if match["solution_open"] or match["solution_close"]:
        return Tag(Part.SOLUTION, "solution", bool(match["solution_close"]), start, end, False)
    if not thoughts:
        return None
    if match["channel"]:
        return Tag(Part.THOUGHT, "channel", match["channel"].lower() == "final", start, end, False, resets=True)
    if match["bare"]:
        return Tag(Part.THOUGHT, "bare channel", match["bare_channel"] == "final", start, end, False, resets=True)
    return Tag(Part.THOUGHT, "tokens", bool(match["tokens_close"]), start, end, False)


@lru_cache(maxsize=256)
def _scanner(thought_names: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, Part]]:
    parts = dict.fromkeys(_ANSWER_NAMES, Part.ANSWER) | dict.fromkeys(_SOLUTION_NAMES, Part.SOLUTION)
    parts |= dict.fromkeys((name.lower() for name in thought_names), Part.THOUGHT)
    names = "|".join(re.escape(name) for name in sorted(parts, key=len, reverse=True))
    tag = (
        rf"(?P<left>[<＜◁\[])\s*+(?P<before>[/／]?)\s*+(?P<name>{names}){_ATTRIBUTES}\s*+(?P<after>[/／]?)\s*+"
        r"(?P<right>[>＞▷\]])"
    )
    return re.compile(f"{tag}|{_TOKENS}", re.IGNORECASE), parts
