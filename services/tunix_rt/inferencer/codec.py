"""What the service needs of a tokenizer. `tunix_rt.models.tokenizer.Tokenizer` is one; tests bring a smaller one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tunix_rt.inferencer.transcript import Detokenizer


class Codec(Protocol):
    """Text to token ids and back."""

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]: ...

    def token_text(self, token_id: int) -> str:
        """One token's text, for log-probabilities."""
        ...

    def detokenizer(self, *, keep_special: bool = False) -> Detokenizer:
        """A fresh one; ``keep_special`` shows special tokens as text, which an answer leaves out."""
        ...

    def render_chat(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str: ...
