"""Which texts a tokenizer reads as control tokens, and where they are in a text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import AddedToken
from tokenizers import Tokenizer as FastTokenizer

from tunix_rt.errors import InvalidArtifact

# Models write these themselves, around what they think.
_THOUGHTS = frozenset({"<think>", "</think>"})
_EXCESSIVE = 50_000_000


class ControlTokens:
    """The control tokens of one tokenizer: its special tokens, and other added tokens between brackets that
    ``dialogue``, a rendered conversation, has (as DeepSeek's ``<｜User｜>``).

    Raises `InvalidArtifact` for an excessive number of them.
    """

    def __init__(self, fast: FastTokenizer, dialogue: str) -> None:
        found = [token for token in fast.get_added_tokens_decoder().values() if _controls(token, dialogue)]
        self._by_text = {token.content: token for token in found}
        texts = list(self._by_text)
        if sum(len(text) ** 2 for text in texts) > _EXCESSIVE:
            raise InvalidArtifact("the tokenizer's special tokens are excessive")
        try:
            self._pattern = re.compile(_alternation(texts)) if texts else None
        except RecursionError as error:
            raise InvalidArtifact("the tokenizer's special tokens are nested too deeply") from error
        self._longest = max(map(len, texts), default=0)
        self._beginnings = {text[:k] for text in texts for k in range(1, len(text))}
        self._endings = {text[k:] for text in texts for k in range(1, len(text))}

    def find(self, text: str, start: int = 0) -> re.Match[str] | None:
        """The first control token at or after ``start``."""
        return self._pattern.search(text, start) if self._pattern is not None else None

    def all(self, text: str) -> list[re.Match[str]]:
        """Every control token of ``text``, in order."""
        return list(self._pattern.finditer(text)) if self._pattern is not None else []

    def token(self, text: str) -> AddedToken:
        """What the tokenizer says of the control token ``text``."""
        return self._by_text[text]

    def may_join(self, content: str) -> bool:
        """Whether the ends of ``content`` may be a part of a control token."""
        text = content.strip()
        sizes = range(1, min(self._longest, len(text)) + 1)
        return any(text[-k:] in self._beginnings or text[:k] in self._endings for k in sizes)

    def cut(self, content: str, mark: str) -> tuple[str, int]:
        """``content`` with ``mark`` inside of each control token, and how many there are."""
        count = 0
        while (found := self.find(content)) is not None:
            at = found.start() + 1
            content = content[:at] + mark + content[at:]
            count += 1
        return content, count


def _controls(token: AddedToken, dialogue: str) -> bool:
    text = token.content
    # A single character cannot be cut.
    if len(text) < 2 or text in _THOUGHTS:
        return False
    return token.special or (text[0] in "<[" and text[-1] in ">]" and text in dialogue)


def _alternation(texts: Sequence[str]) -> str:
    """A regular expression of ``texts`` that takes the longest at each place, in time that does not grow with their
    number: common beginnings are tried once."""
    rests: dict[str, list[str]] = {}
    for text in texts:
        rests.setdefault(text[:1], []).append(text[1:])
    optional = rests.pop("", None) is not None
    branches = []
    for first, endings in rests.items():
        common = _common_beginning(endings)
        branches.append(re.escape(first + common) + _alternation([ending[len(common) :] for ending in endings]))
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)})" + ("?" if optional else "")


def _common_beginning(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:same]
