"""Notifications of commits within this process: whoever waits for a topic wakes up right after a commit of it.

A topic is a resource id, or `OUTBOX`. Commits of another registry process on the same database are not seen, which is
why every waiter also polls.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.orm import Session

OUTBOX: Final = "outbox"
_TOPICS: Final = "tunix_rt.topics"


def notify_on_commit(session: Session, *topics: str) -> None:
    """Wake who waits for ``topics`` when the session's transaction has been committed."""
    session.info.setdefault(_TOPICS, set()).update(topics)


def take_topics(session: Session) -> set[str]:
    """The topics to notify of, collected in this session so far; they are forgotten."""
    topics: set[str] = session.info.pop(_TOPICS, set())
    return topics


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
        """Wait for a commit of a topic, or ``seconds``; returns whether there was one."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class CommitNotifier:
    """Wakes coroutines that wait for a topic, from the database's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: set[Subscription] = set()

    @contextmanager
    def subscribe(self, topics: Iterable[str]) -> Iterator[Subscription]:
        """Be woken for ``topics`` within the block. Subscribe first, then read, so that no commit is missed."""
        subscription = Subscription(frozenset(topics), asyncio.get_running_loop())
        with self._lock:
            self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions.discard(subscription)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._subscriptions)

    def notify(self, topics: set[str]) -> None:
        """Wake everybody who waits for one of ``topics``."""
        if not topics:
            return
        with self._lock:
            waiting = [each for each in self._subscriptions if not each.topics.isdisjoint(topics)]
        for subscription in waiting:
            subscription.wake()
