"""The two forms of log-probabilities in OpenAI's API: parallel lists (completions) and entries (chat)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tunix_rt.inferencer.generation import ChosenToken
from tunix_rt.inferencer.text import Detokenizer, Tokenizer

# JSON has no -inf; OpenAI's API uses this value.
LOWEST = -9999.0
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class LogprobLists:
    """``tokens``, ``token_logprobs``, ``top_logprobs`` and ``text_offset`` of consecutive tokens.

    An offset is the position of the token's text in the returned text, in characters; a part of a character has the
    offset of its character.
    """

    def __init__(self, tokenizer: Tokenizer, detokenizer: Detokenizer, offset: int = 0) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = detokenizer
        self._offset = offset
        self._document: dict[str, list[Any]] = {
            "tokens": [],
            "token_logprobs": [],
            "top_logprobs": [],
            "text_offset": [],
        }

    def add_unscored(self, token_id: int) -> None:
        """Add a text's first token, which has no log-probability."""
        self._add(token_id, None, None)

    def add(self, tokens: Iterable[ChosenToken]) -> None:
        for token in tokens:
            top: dict[str, float] = {}
            # Different tokens may have the same text (parts of characters): the most likely one is kept.
            for other, logprob in (*token.top, (token.token_id, token.logprob)):
                top.setdefault(self._tokenizer.token_text(other), finite(logprob))
            self._add(token.token_id, finite(token.logprob), top)

    def take(self) -> dict[str, list[Any]]:
        """The entries added since the last call."""
        taken = self._document
        self._document = {name: [] for name in taken}
        return taken

    def _add(self, token_id: int, logprob: float | None, top: dict[str, float] | None) -> None:
        self._document["tokens"].append(self._tokenizer.token_text(token_id))
        self._document["token_logprobs"].append(logprob)
        self._document["top_logprobs"].append(top)
        self._document["text_offset"].append(self._offset)
        self._offset += len(self._detokenizer.push(token_id))


def logprob_entries(tokens: Iterable[ChosenToken], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """``choices[].logprobs.content`` of a chat completion."""
    return [
        {
            **_entry(token.token_id, token.logprob, tokenizer),
            "top_logprobs": [_entry(other, logprob, tokenizer) for other, logprob in token.top],
        }
        for token in tokens
    ]


def finite(logprob: float) -> float:
    return max(logprob, LOWEST)


def _entry(token_id: int, logprob: float, tokenizer: Tokenizer) -> dict[str, Any]:
    text = tokenizer.token_text(token_id)
    # The bytes of a part of a character are unknown.
    of_text = None if _REPLACEMENT in text else list(text.encode())
    return {"token": text, "logprob": finite(logprob), "bytes": of_text}
