"""Canonical JSON and content digests: the byte forms that identities are made of."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from tunix_rt.errors import Violations

DIGEST_PREFIX: Final = "sha256:"
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_DIGEST: Final = re.compile(DIGEST_PREFIX + "[0-9a-f]{64}")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no white space and unescaped UTF-8. Raises ValueError for NaN and infinities."""
    return _CANONICAL.encode(value)


def sha256_digest(data: bytes | str) -> str:
    """``sha256:`` and the 64 hex digits of ``data`` (text as UTF-8)."""
    return DIGEST_PREFIX + hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def is_digest(text: str) -> bool:
    """Whether ``text`` is ``sha256:`` and 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: str, path: str, violations: Violations) -> bool:
    """Add a violation under ``path`` unless ``text`` is a digest; returns whether it is one."""
    return violations.check(is_digest(text), path, 'must be "sha256:" and 64 lower-case hex digits')
