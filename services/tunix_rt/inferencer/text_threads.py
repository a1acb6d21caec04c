"""Threads that wait for a model's tokenizer, so that the event loop never does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
# Bytes. Longer requests wait for one another, and short ones do not wait for them.
_LONG_REQUEST = 1 << 15


class TextThreads:
    """One thread for the short requests of a model and one for the long ones; both start on first use."""

    def __init__(self) -> None:
        self._short = ThreadPoolExecutor(max_workers=1, thread_name_prefix="text")
        self._long = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-text")

    async def run(self, size: int, work: Callable[[], _T]) -> _T:
        """The result of ``work`` for a request of ``size`` bytes. Cancelling takes work back that has not begun."""
        threads = self._short if size <= _LONG_REQUEST else self._long
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def close(self) -> None:
        """Take back what has not begun."""
        for threads in (self._short, self._long):
            threads.shutdown(wait=False, cancel_futures=True)
