"""Identifiers: a prefix that tells the resource, and a ULID, so that ids sort by the time they were made."""

from __future__ import annotations

import re
import secrets
import threading
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PATTERN: Final = re.compile(r"[a-z]{2,8}-[0-7][0-9a-hjkmnp-tv-z]{25}")
_RANDOM_BITS: Final = 80

_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """``<prefix>-<26 Crockford base32 characters>``; strictly growing within one process (ULID, monotonic variant)."""
    global _last
    fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    with _lock:
        _last = max(fresh, _last + 1)
        value = _last
    return f"{prefix}-" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def is_id(text: str, prefix: str | None = None) -> bool:
    """Whether ``text`` has the form of an id (of that prefix)."""
    return bool(_PATTERN.fullmatch(text)) and (prefix is None or text.startswith(f"{prefix}-"))
