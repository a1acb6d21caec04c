"""Text and tokens: what the inferencer needs of a tokenizer, and the text of a running generation.

`tunix_rt.models.tokenizer.Tokenizer` satisfies the protocol; tests use a smaller one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Detokenizer(Protocol):
    """Decodes tokens incrementally. The pieces concatenate to the whole text."""

    def push(self, token_id: int) -> str:
        """Text that this token completes; "" while a character is incomplete."""
        ...

    def flush(self) -> str:
        """The rest of the text; an incomplete character becomes U+FFFD."""
        ...


class Tokenizer(Protocol):
    """Text to token ids and back. Encoding may take long and waits for another process; decoding does not."""

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]: ...

    def token_text(self, token_id: int) -> str:
        """Text of one token, for log-probabilities."""
        ...

    def detokenizer(self, *, keep_special: bool = False) -> Detokenizer:
        """A new detokenizer. ``keep_special`` keeps special tokens in the text."""
        ...

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], *, template: str = "", parse_control_tokens: bool = False
    ) -> list[int]:
        """Ids of the conversation up to the assistant's turn, by the model's own template or ``template``.

        Control tokens in contents are text, unless ``parse_control_tokens``. Raises `InvalidArtifact` for a template
        that fails.
        """
        ...

    def end_of_turn(self, template: str = "") -> int:
        """The token that ends an answer with ``template``. Raises `InvalidArtifact` for a template that fails."""
        ...

    def text_limit(self, tokens: int) -> int:
        """Bytes of text; a longer one cannot have as few as ``tokens`` tokens."""
        ...

    def close(self) -> None:
        """Release its processes. Decoding still works."""
        ...


class Transcript:
    """The text of one answer as it grows: whole characters, up to the first stop string.

    ``push`` tokens, then ``take`` the text that can be sent: an ending that may become a stop string is held back.
    """

    def __init__(self, detokenizer: Detokenizer, stop: Sequence[str] = ()) -> None:
        self._detokenizer = detokenizer
        self._stop = tuple(stop)
        self._held = ""  # text that was not taken yet
        self.stopped = False

    def push(self, token_id: int) -> bool:
        """Add a token. True when a stop string is complete; the text ends before it."""
        if not self.stopped:
            self._add(self._detokenizer.push(token_id))
        return self.stopped

    def take(self) -> str:
        """Text that can be sent now: everything except an ending that may begin a stop string."""
        keep = 0 if self.stopped else self._may_become_stop()
        taken, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return taken

    def finish(self) -> str:
        """The rest of the text, at the end of the generation."""
        if not self.stopped:
            self._add(self._detokenizer.flush())
        taken, self._held = self._held, ""
        return taken

    def _add(self, piece: str) -> None:
        self._held += piece
        ends = [(self._held.find(stop) + len(stop), len(stop)) for stop in self._stop if stop in self._held]
        if ends:
            # The stop string that is complete first ends the text, wherever tokens split it; of two, the longer one.
            end, length = min(ends, key=lambda found: (found[0], -found[1]))
            self._held = self._held[: end - length]
            self.stopped = True

    def _may_become_stop(self) -> int:
        """Length of the longest ending of the held text that is the beginning of a stop string."""
        longest = max((len(stop) - 1 for stop in self._stop), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            ending = self._held[-length:]
            if any(stop.startswith(ending) for stop in self._stop):
                return length
        return 0
