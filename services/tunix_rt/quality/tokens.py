"""Token counts without a model's tokenizer: the `regex-v1` unit of trace budgets and of the `trace_tokens` metric."""

from __future__ import annotations

import re

TOKENIZER_NAME = "regex-v1"

# A word (letters and combining marks of any script, apostrophes inside), a single digit, or any other visible
# character.
_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d|[^\s\w]|_")


def count_tokens(text: str) -> int:
    """Number of `regex-v1` tokens in ``text``: words, single digits and punctuation marks; white space is free."""
    return len(_TOKEN.findall(text))
