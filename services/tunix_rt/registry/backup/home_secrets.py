"""The files of a home that are secrets: who has one of them acts as the platform, or as its administrator."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SIGNING_KEY: Final = "registry-signing-key.pem"
# Files, and folders of files.
_SECRETS: Final = (SIGNING_KEY, "token", "tokens", "secrets")


def secrets_of(home: Path, signing_key: Path | None = None) -> dict[str, Path]:
    """Secrets by their path in the home; ``signing_key`` where that is elsewhere."""
    found = {SIGNING_KEY: signing_key} if signing_key is not None and signing_key.is_file() else {}
    for name in _SECRETS:
        place = home / name
        files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
        found |= {path.relative_to(home).as_posix(): path for path in files}
    return found
