"""Threads that run units of work: each lane has some of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from tunix_rt.rpc.lanes import Lane, Turn, current_turn
from tunix_rt.rpc.waiting_room import WaitingRoom

T = TypeVar("T")


class ThreadLanes:
    """Runs functions in threads; ``threads`` is how many run at once in each lane. For one event loop at a time."""

    def __init__(self, threads: Mapping[Lane, int]) -> None:
        self._rooms: Final = {lane: WaitingRoom(lane, count, "thread") for lane, count in threads.items()}
        self._threads: Final = {
            lane: ThreadPoolExecutor(count, thread_name_prefix=f"database-{lane}") for lane, count in threads.items()
        }
        self._shared: Final[dict[Hashable, asyncio.Task[Any]]] = {}

    def crowded(self, lane: Lane) -> bool:
        """Whether one more call of ``lane`` would probably time out."""
        return self._rooms[lane].crowded

    async def run(self, work: Callable[[], T], lane: Lane | None = None) -> T:
        """The result of ``work``, in the caller's context and lane. Raises `Exhausted` where a call has waited too long
        to begin.

        Work that has begun is not interrupted when its caller is cancelled; work that has not does not begin.
        """
        turn = current_turn() if lane is None else Turn(lane, begun=True)
        room = self._rooms[turn.lane]
        await room.enter(turn)
        turn.begun = True
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def finish(done: Future[T]) -> None:
            room.leave()
            if answer.done():  # its caller has been cancelled
                return
            error = done.exception()
            if error is None:
                answer.set_result(done.result())
            else:
                answer.set_exception(error)

        def finished(done: Future[T]) -> None:
            try:
                loop.call_soon_threadsafe(finish, done)
            except RuntimeError:  # the loop is closed
                room.leave()

        try:
            begun = self._threads[turn.lane].submit(contextvars.copy_context().run, work)
        except BaseException:  # whatever kept it from beginning, the place is free again
            room.leave()
            raise
        begun.add_done_callback(finished)
        return await answer

    async def run_shared(self, key: Hashable, work: Callable[[], T], lane: Lane) -> T:
        """As `run`; those who ask for the same ``key`` before ``work`` begins get one answer."""
        task: asyncio.Task[T] | None = self._shared.get(key)
        if task is None:

            def begin() -> T:
                self._shared.pop(key, None)
                return work()

            task = self._shared[key] = asyncio.create_task(self.run(begin, lane))
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)

    def close(self) -> None:
        """Wait for what runs."""
        for threads in self._threads.values():
            threads.shutdown(wait=True)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """All who asked may have gone: then nobody else looks at its error."""
    if not task.cancelled():
        task.exception()
