"""Text and tokens: what the inferencer needs of a tokenizer, and the text of a running generation.

`tunix_rt.models.tokenizer.Tokenizer` satisfies the protocol; tests use a smaller one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Detokenizer(Protocol):
    """Turns tokens into text piece by piece. The pieces concatenate to the whole text."""

    def push(self, token_id: int) -> str:
        """Text that has become certain with this token; "" while a character is incomplete."""
        ...

    def flush(self) -> str:
        """What is left at the end (an incomplete character shows as U+FFFD)."""
        ...


class Tokenizer(Protocol):
    """Text to token ids and back."""

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]: ...

    def token_text(self, token_id: int) -> str:
        """One token's text, for log-probabilities."""
        ...

    def detokenizer(self, *, keep_special: bool = False) -> Detokenizer:
        """A fresh one; ``keep_special`` shows special tokens as text, which an answer leaves out."""
        ...

    def render_chat(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str: ...


class Transcript:
    """Text of one answer. ``push`` tokens, ``take`` what may be shown; after a stop string nothing more comes out."""

    def __init__(self, detokenizer: Detokenizer, stop: Sequence[str] = ()) -> None:
        self._detokenizer = detokenizer
        self._stop = tuple(stop)
        self._held = ""  # certain text that is not shown yet
        self.stopped = False

    def push(self, token_id: int) -> bool:
        """Add a token; True when a stop string is complete (the text ends before it)."""
        if not self.stopped:
            self._add(self._detokenizer.push(token_id))
        return self.stopped

    def take(self) -> str:
        """Text that can be shown now: all but an ending that may be the start of a stop string."""
        keep = 0 if self.stopped else self._may_become_stop()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """The rest of the text, at the end of the generation."""
        if not self.stopped:
            self._add(self._detokenizer.flush())
        shown, self._held = self._held, ""
        return shown

    def _add(self, piece: str) -> None:
        self._held += piece
        ends = [(self._held.find(stop) + len(stop), len(stop)) for stop in self._stop if stop in self._held]
        if ends:
            # The one that is complete first ends the text, however tokens cut it; of two, the longer one.
            end, length = min(ends, key=lambda found: (found[0], -found[1]))
            self._held = self._held[: end - length]
            self.stopped = True

    def _may_become_stop(self) -> int:
        """Length of the longest ending of the held text that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stop), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            ending = self._held[-length:]
            if any(stop.startswith(ending) for stop in self._stop):
                return length
        return 0
