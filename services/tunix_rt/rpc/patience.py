"""Waiting out a peer that is away or full: exponential backoff with jitter, measured from its last sign of life."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tunix_rt.errors import Exhausted, Transient
from tunix_rt.observability.logs import get_logger

T = TypeVar("T")
_FIRST_SECONDS = 0.2
_LONGEST_SECONDS = 5.0
_log = get_logger(__name__)


class OutOfPatience(Exception):
    """The peer gave no sign of life for too long."""


class Patience:
    """Repeats calls while the peer is out of reach (`Transient`) or full (`Exhausted`), for at most ``seconds``.

    Shared by all calls to one peer: an answer to any of them starts the clock anew. ``seconds`` None waits for ever.
    """

    def __init__(self, peer: str, seconds: float | None) -> None:
        self._peer = peer
        self._seconds = seconds
        self._last_answer = time.monotonic()
        self.waiting = False

    async def call(self, make: Callable[[], Awaitable[T]]) -> T:
        """The answer of ``make()``; raises `OutOfPatience`, and any error that waiting does not cure."""
        wait = _FIRST_SECONDS
        while True:
            try:
                answer = await make()
            except Exhausted as error:
                self._answered()  # full, but alive
                pause = max(wait, error.retry_after_seconds)
            except Transient as error:
                silence = time.monotonic() - self._last_answer
                if self._seconds is not None and silence > self._seconds:
                    raise OutOfPatience(f"{self._peer} has not answered for {silence:.0f} s: {error}") from error
                if not self.waiting:
                    _log.warning("waiting for a peer", peer=self._peer, error=str(error))
                self.waiting = True
                pause = wait
            else:
                self._answered()
                return answer
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))
            wait = min(2 * wait, _LONGEST_SECONDS)

    def _answered(self) -> None:
        self._last_answer = time.monotonic()
        self.waiting = False
