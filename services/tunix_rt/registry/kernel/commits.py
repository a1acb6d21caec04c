"""News of commits within this process: who waits for a topic wakes up right after a commit that touched it.

A topic is a resource id, or `OUTBOX`. Another registry process on the same database is not heard here, which is why
every waiter also polls. Does not know what was written.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.orm import Session

OUTBOX: Final = "outbox"
_TOUCHED: Final = "tunix_rt.touched"


def touch(session: Session, *topics: str) -> None:
    """Announce ``topics`` when the session's transaction has been committed."""
    session.info.setdefault(_TOUCHED, set()).update(topics)


def take_touched(session: Session) -> set[str]:
    """The topics touched in this session so far; they are forgotten."""
    touched: set[str] = session.info.pop(_TOUCHED, set())
    return touched


class Subscription:
    """One waiter on one event loop."""

    def __init__(self, topics: frozenset[str], loop: asyncio.AbstractEventLoop) -> None:
        self.topics = topics
        self._loop = loop
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Wake the waiter; callable from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    async def wait(self, seconds: float) -> bool:
        """Until a commit touches a topic, or ``seconds`` have passed; returns whether there was a commit."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class CommitNews:
    """Hands news of commits from database threads to waiting coroutines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: set[Subscription] = set()

    @contextmanager
    def subscribe(self, topics: Iterable[str]) -> Iterator[Subscription]:
        """Listen to ``topics`` within the block. Subscribe first, then read, so that nothing falls in between."""
        subscription = Subscription(frozenset(topics), asyncio.get_running_loop())
        with self._lock:
            self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions.discard(subscription)

    def announce(self, topics: set[str]) -> None:
        """Wake everybody who listens to one of ``topics``."""
        if not topics:
            return
        with self._lock:
            listening = [each for each in self._subscriptions if not each.topics.isdisjoint(topics)]
        for subscription in listening:
            subscription.wake()
