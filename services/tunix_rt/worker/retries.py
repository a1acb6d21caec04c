"""Retries for a peer that is unavailable or overloaded: exponential backoff with jitter."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tunix_rt.errors import Exhausted, Transient, TunixError, Unauthenticated
from tunix_rt.observability.logs import get_logger

T = TypeVar("T")
_FIRST_SECONDS = 0.2
_LONGEST_SECONDS = 3.0
_log = get_logger(__name__)


class RetriesExhausted(Exception):
    """The peer has not answered for longer than the policy allows."""


class RetryPolicy:
    """Repeats calls while the peer is out of reach (`Transient`), full (`Exhausted`), or does not know this process's
    token (`Unauthenticated`): files of tokens are read again, so that a new one may come.

    Gives up after ``give_up_seconds`` without any answer; None retries indefinitely. Share one policy among all calls
    to a peer: an answer to any of them restarts its clock. A peer that is full says how long to wait; that is done for
    at most ``longest_seconds``.
    """

    def __init__(
        self, peer: str, give_up_seconds: float | None = None, *, longest_seconds: float = float("inf")
    ) -> None:
        self._peer = peer
        self._longest_seconds = longest_seconds
        self._give_up_seconds = give_up_seconds
        self._last_answer = time.monotonic()
        self.waiting = False

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """The answer of ``make()``. Raises `RetriesExhausted`, and every error that a retry does not cure."""
        backoff = _FIRST_SECONDS
        while True:
            try:
                answer = await make()
            except Exhausted as error:
                self._answered()  # full, but alive
                pause = max(backoff, min(error.retry_after_seconds, self._longest_seconds))
            except (Transient, Unauthenticated) as error:
                self._unanswered(error)
                pause = backoff
            else:
                self._answered()
                return answer
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))
            backoff = min(2 * backoff, _LONGEST_SECONDS)

    def _answered(self) -> None:
        self._last_answer = time.monotonic()
        self.waiting = False

    def _unanswered(self, error: TunixError) -> None:
        silence = time.monotonic() - self._last_answer
        if self._give_up_seconds is not None and silence > self._give_up_seconds:
            raise RetriesExhausted(f"{self._peer} has not answered for {silence:.0f} s: {error}") from error
        if not self.waiting:
            _log.warning("waiting for a peer", peer=self._peer, error=str(error))
        self.waiting = True
