"""Commands that give nobody work: counted by subject, to notice a queue that is full of them.

Whoever may publish to a command subject can fill it with ids that exist nowhere, or with jobs that are done. Each
costs a claim, and a real command waits behind all of them. The queue can be rebuilt from the tables, so it is emptied.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

_MANY: Final = 200
_WINDOW_SECONDS: Final = 30.0
_SUBJECTS: Final = 1000


class Floods:
    """Counts claims that were not granted. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[str, deque[float]] = {}

    def note(self, subject: str) -> None:
        """A worker has claimed a job because of a command on ``subject``, in vain. An empty subject is not counted."""
        if not subject:
            return
        with self._lock:
            if len(self._times) >= _SUBJECTS:
                self._times.clear()
            self._times.setdefault(subject, deque(maxlen=_MANY)).append(self._clock())

    def flooded(self) -> list[str]:
        """Subjects with 200 such claims within 30 s. They count from zero afterwards."""
        since = self._clock() - _WINDOW_SECONDS
        with self._lock:
            found = [name for name, times in self._times.items() if len(times) == _MANY and times[0] >= since]
            for name in found:
                del self._times[name]
            return found
