"""Text of a growing token sequence, piece by piece, never showing half a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"


class IncrementalDetokenizer:
    """Turns one token at a time into the text that it adds.

    The concatenation of all pieces, `flush` included, equals decoding the whole sequence at once. A piece is held
    back while the text ends in an incomplete UTF-8 sequence. Only a short window is decoded again for each token, so
    the cost does not grow with the answer.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._window = 0  # first id of the window that is decoded again
        self._shown = 0  # ids before this one are in text that was handed out

    def push(self, token_id: int) -> str:
        """Text that became certain with ``token_id``; often a word, sometimes nothing."""
        self._ids.append(token_id)
        before = self._decode(self._ids[self._window : self._shown])
        now = self._decode(self._ids[self._window :])
        if now.endswith(_REPLACEMENT) or len(now) <= len(before):
            return ""
        self._window, self._shown = self._shown, len(self._ids)
        return now[len(before) :]

    def flush(self) -> str:
        """What is still held back at the end; an incomplete character becomes U+FFFD."""
        before = self._decode(self._ids[self._window : self._shown])
        now = self._decode(self._ids[self._window :])
        self._window, self._shown = self._shown, len(self._ids)
        return now[len(before) :]
