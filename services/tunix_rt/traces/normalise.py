"""The normal form of prompts, for duplicates and contamination, and its n-grams."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Words and operators; "7 + 5" and "7 - 5" must stay different.
_WORD = re.compile(r"[^\W_]+(?:[.,]\d+)*|[^\w\s.,;:!?'\"“”‘’()\[\]{}]")


def prompt_words(prompt: str) -> list[str]:
    """The prompt's words, numbers and operators after NFKC and case folding; punctuation is dropped."""
    return _WORD.findall(unicodedata.normalize("NFKC", prompt).casefold())


def normalise_prompt(prompt: str) -> str:
    """The words of `prompt_words` joined by single spaces."""
    return " ".join(prompt_words(prompt))


def ngrams(prompt: str, size: int) -> set[str]:
    """All runs of ``size`` words, joined by single spaces; a shorter prompt is one run of its own length."""
    return word_ngrams(prompt_words(prompt), size)


def word_ngrams(words: Sequence[str], size: int) -> set[str]:
    """`ngrams` of a prompt whose words are known."""
    if len(words) <= size:
        return {" ".join(words)} if words else set()
    return {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}
