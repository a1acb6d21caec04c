"""SQLite's one writer at a time, in this process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class WriteLock:
    """A lock that is handed to those who wait in their order, to urgent ones before all others."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._urgent, self._others = deque[threading.Lock](), deque[threading.Lock]()

    @contextmanager
    def held(self, *, urgent: bool) -> Iterator[None]:
        """Holds the lock inside the block."""
        turn = self._queue(self._urgent if urgent else self._others)
        if turn is not None:
            turn.acquire()
        try:
            yield
        finally:
            self._hand_over()

    def _queue(self, waiting: deque[threading.Lock]) -> threading.Lock | None:
        """What is released at this caller's turn; None: it is now."""
        with self._mutex:
            if not self._taken:
                self._taken = True
                return None
            turn = threading.Lock()
            turn.acquire()
            waiting.append(turn)
            return turn

    def _hand_over(self) -> None:
        with self._mutex:
            waiting = self._urgent or self._others
            if waiting:
                waiting.popleft().release()
            else:
                self._taken = False
