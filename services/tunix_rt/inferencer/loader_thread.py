"""Runs a load's blocking work in a thread of its own, which can be abandoned."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from tunix_rt.errors import InvalidArtifact

_T = TypeVar("_T")


class LoaderThread:
    """One piece of work at a time; the caller sees to that. A thread that hangs does not keep the process alive."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    async def run(self, work: Callable[[], _T]) -> _T:
        """The result of ``work``. When this call is cancelled, the thread goes on and its result is dropped.

        A panic of native code, which is no `Exception`, becomes `InvalidArtifact`.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()

        def deliver(result: _T | None, error: BaseException | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def body() -> None:
            result, failure = None, None
            try:
                result = work()
            except Exception as error:
                failure = error
            except BaseException as error:
                failure = InvalidArtifact(f"native code failed on the model's files: {error!r:.300}")
            if not loop.is_closed():
                loop.call_soon_threadsafe(deliver, result, failure)

        self._thread = threading.Thread(target=body, name="model-loader", daemon=True)
        self._thread.start()
        return await done

    def join(self, seconds: float) -> None:
        """Wait for the work in progress."""
        if self._thread is not None:
            self._thread.join(seconds)
