"""A waiting room in front of places: bounded by the time that a call may wait.

Under overload the newest call gets the next place, for it is the one whose caller still waits: those that came before
are refused when their second is over. (Adaptive LIFO: Maurer, "Fail at Scale", ACM Queue 13(8), 2015.)
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tunix_rt.errors import Exhausted
from tunix_rt.observability import metrics
from tunix_rt.observability.logs import get_logger
from tunix_rt.rpc.lanes import QUEUE_SECONDS, Lane, Turn

# More are refused at once.
_MAX_WAITING: Final = 10_000
# From this wait of the oldest on, the newest goes first.
_OVERLOAD_SECONDS: Final = QUEUE_SECONDS / 2
_WARN_SECONDS: Final = 10.0
# The advised wait before a retry grows by a second with each of these many refusals in a second.
_REFUSALS_OF_A_SECOND: Final = 20
LONGEST_RETRY_SECONDS: Final = 8.0
# A room is crowded from `_CROWD` waiting calls on; from `_LATE_CROWD` on if a call has timed out in it
# within `_CROWD_SECONDS`.
_CROWD: Final = 100
_LATE_CROWD: Final = 12
_CROWD_SECONDS: Final = 2.0
_log = get_logger(__name__)


class Refusals:
    """Of calls of a lane that wait for what ``of`` names: counted, and said every ten seconds."""

    def __init__(self, lane: Lane, of: str) -> None:
        self._lane, self._of = lane, of
        self._counter = metrics.CALLS_SHED.labels(lane, of)
        self._second, self._now, self._before = 0, 0, 0
        self._count, self._warned = 0, float("-inf")

    def next(self) -> Exhausted:
        """The error of one more refused call. Its caller is to come back after a second, and later the more there are:
        after eight at most."""
        now = time.monotonic()
        self._counter.inc()
        self._count += 1
        if int(now) != self._second:
            self._before = self._now if int(now) == self._second + 1 else 0
            self._second, self._now = int(now), 0
        self._now += 1
        if now - self._warned > _WARN_SECONDS:
            _log.warning("calls are refused: there are too many", lane=self._lane, of=self._of, count=self._count)
            self._count, self._warned = 0, now
        retry = 1.0 if self._lane == "control" else 1.0 + max(self._now, self._before) / _REFUSALS_OF_A_SECOND
        message = "there is more to do than can be done now; try again later"
        return Exhausted(message, min(LONGEST_RETRY_SECONDS, retry))


@dataclass(eq=False)
class _Waiter:
    turn: Turn
    place: asyncio.Future[None]


class WaitingRoom:
    """Hands out ``places`` of ``lane`` for what ``of`` names in the metrics. For one event loop at a time."""

    def __init__(self, lane: Lane, places: int, of: str) -> None:
        self._lane, self._places, self._of = lane, places, of
        self._taken = 0
        # What has begun goes first, in order.
        self._begun = deque[_Waiter]()
        self._new = deque[_Waiter]()
        self._timer: asyncio.TimerHandle | None = None
        self._refusals = Refusals(lane, of)
        # When a call last timed out here.
        self._late = float("-inf")

    @property
    def crowded(self) -> bool:
        """Whether one more call would probably time out here: many wait, or some wait and others have just timed
        out."""
        late = time.monotonic() - self._late < _CROWD_SECONDS
        return len(self._new) >= (_LATE_CROWD if late else _CROWD)

    @asynccontextmanager
    async def place(self, turn: Turn) -> AsyncIterator[None]:
        """A place, as long as the block runs. Raises `Exhausted`, as `enter`."""
        await self.enter(turn)
        try:
            yield
        finally:
            self.leave()

    async def enter(self, turn: Turn) -> None:
        """Take a place as soon as there is one. Raises `Exhausted` when the turn may wait no longer."""
        began = time.monotonic()
        if self._taken < self._places and not self._begun and not self._new:
            self._taken += 1
        else:
            await self._wait(turn)
        if not turn.begun:
            metrics.QUEUE_SECONDS.labels(self._lane, self._of).observe(time.monotonic() - began)

    def leave(self) -> None:
        """Give a place to who waits."""
        now = time.monotonic()
        while (waiter := self._next(now)) is not None:
            if waiter.place.done() or waiter.place.get_loop().is_closed():
                continue
            if waiter.turn.begin_by >= now or waiter.turn.begun:
                waiter.place.set_result(None)
                return
            self._late = now
            waiter.place.set_exception(self._refusals.next())
        self._taken -= 1

    async def _wait(self, turn: Turn) -> None:
        if not turn.begun and (len(self._new) >= _MAX_WAITING or time.monotonic() >= turn.begin_by):
            raise self._refusals.next()
        loop = asyncio.get_running_loop()
        waiter = _Waiter(turn, loop.create_future())
        (self._begun if turn.begun else self._new).append(waiter)
        self._set_timer(loop)
        try:
            await waiter.place
        except asyncio.CancelledError:
            if waiter.place.done() and not waiter.place.cancelled() and waiter.place.exception() is None:
                self.leave()
            raise

    def _next(self, now: float) -> _Waiter | None:
        if self._begun:
            return self._begun.popleft()
        if not self._new:
            return None
        overloaded = self._lane == "calls" and now - self._new[0].turn.came > _OVERLOAD_SECONDS
        return self._new.pop() if overloaded else self._new.popleft()

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None or not self._new or self._new[0].turn.begin_by == float("inf"):
            return
        self._timer = loop.call_later(max(0.0, self._new[0].turn.begin_by - time.monotonic()), self._refuse_late, loop)

    def _refuse_late(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = time.monotonic()
        while self._new and (self._new[0].place.done() or self._new[0].turn.begin_by <= now):
            waiter = self._new.popleft()
            if not waiter.place.done():
                self._late = now
                waiter.place.set_exception(self._refusals.next())
        self._set_timer(loop)
