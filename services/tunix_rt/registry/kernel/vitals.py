"""Whether the registry can do its work: when a write to the database last succeeded, and a publication last failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# A write to the database, which is tried every two seconds, or the confirmation of what waits to be published.
PATIENCE_SECONDS: Final = 10.0


class Vitals:
    """Notes of the loops that work, and what they say about health. Problems are texts, "" for none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written = clock()
        self._failing_since: float | None = None
        self._why = ""

    def wrote(self) -> None:
        """A write to the database has succeeded."""
        self._written = self._clock()

    def published(self) -> None:
        """JetStream has confirmed what it was given, or there was nothing to publish."""
        self._failing_since = None

    def not_published(self, why: str) -> None:
        """JetStream cannot be reached, or does not confirm."""
        self._failing_since = self._clock() if self._failing_since is None else self._failing_since
        self._why = why

    def database_problem(self) -> str:
        """Why nothing can be stored."""
        silence = self._clock() - self._written
        return f"no write to the database has succeeded for {silence:.0f} s" if silence > PATIENCE_SECONDS else ""

    def bus_problem(self) -> str:
        """Why no job reaches a worker, and no fact anybody."""
        if self._failing_since is None or self._clock() - self._failing_since <= PATIENCE_SECONDS:
            return ""
        return f"NATS has confirmed nothing for {self._clock() - self._failing_since:.0f} s: {self._why}"
