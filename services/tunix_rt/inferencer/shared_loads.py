"""Coalesces concurrent loads with the same key. Use it on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class SharedLoads(Generic[_T]):
    """The running loads by key. ``on_failure`` gets the key and the error of a failed load."""

    def __init__(self, on_failure: Callable[[Hashable, BaseException], object]) -> None:
        self._on_failure = on_failure
        self._tasks: dict[Hashable, asyncio.Task[_T]] = {}

    async def result(self, key: Hashable, start: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """The result of the load of ``key``; ``start`` begins it unless it is running.

        Cancelling one caller does not cancel the load.
        """
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.create_task(start())
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    async def cancel(self) -> None:
        """Cancel all loads and wait for them."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: Hashable, task: asyncio.Task[_T]) -> None:
        self._tasks.pop(key, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_failure(key, error)
