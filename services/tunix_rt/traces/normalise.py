"""When two prompts are the same prompt: the normal form used for duplicates and contamination.

Owns the normal form and its n-grams. Knows nothing of evalsets or datasets.
"""

from __future__ import annotations

import re
import unicodedata

# Words and single symbols that carry meaning in a sum; "7 + 5" and "7 - 5" must stay apart.
_WORD = re.compile(r"[^\W_]+(?:[.,]\d+)*|[^\w\s.,;:!?'\"“”‘’()\[\]{}]")


def prompt_words(prompt: str) -> list[str]:
    """The prompt's words, numbers and operators after NFKC and case folding; punctuation is dropped."""
    return _WORD.findall(unicodedata.normalize("NFKC", prompt).casefold())


def normalise_prompt(prompt: str) -> str:
    """The words of `prompt_words` joined by single spaces."""
    return " ".join(prompt_words(prompt))


def ngrams(prompt: str, size: int) -> set[tuple[str, ...]]:
    """All runs of ``size`` words; a shorter prompt is one run of its own length."""
    words = prompt_words(prompt)
    if len(words) <= size:
        return {tuple(words)} if words else set()
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}
