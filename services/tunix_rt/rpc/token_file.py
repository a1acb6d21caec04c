"""A bearer token in a file, read again when the file changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tunix_rt.errors import FailedPrecondition

# What a channel presents: a token, what gives the current one, or nothing.
TokenSource = str | Callable[[], str | None] | None
LOOK_SECONDS = 1.0


class TokenFile:
    """Calling it gives the token: the first word of the file. Looks at the file at most every second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked = float("-inf")
        self._seen: tuple[int, int, int] | None = None
        self._token = ""

    def __call__(self) -> str:
        """Raises `FailedPrecondition` when the file cannot be read or is empty, unless it held a token before."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look()
        return self._token

    def _look(self) -> None:
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                words = self._path.read_text(encoding="utf-8").split()
                if not words:
                    raise FailedPrecondition(f"{self._path} holds no token")
                self._token, self._seen = words[0], seen
        except (OSError, UnicodeDecodeError) as error:
            if not self._token:
                raise FailedPrecondition(f"the token file {self._path} cannot be read: {error}") from error
        except FailedPrecondition:
            if not self._token:
                raise


def current_token(source: TokenSource) -> str | None:
    """The token that a source gives now."""
    return source() if callable(source) else source
