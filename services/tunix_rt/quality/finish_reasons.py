"""Whether the token limit ended a text, in the words of those who say so."""

from __future__ import annotations

from typing import Any, Final

# OpenAI, vLLM and this platform; Anthropic and inspect; OpenAI's responses; the platform's proto.
_LENGTHS: Final = frozenset(
    ("length", "max_tokens", "max_output_tokens", "max_new_tokens", "model_length", "finish_reason_length")
)


def is_truncation(reason: Any) -> bool:
    """Whether ``reason`` says that the token limit ended the text; case does not matter. "" and None say nothing."""
    return isinstance(reason, str) and reason.lower() in _LENGTHS
