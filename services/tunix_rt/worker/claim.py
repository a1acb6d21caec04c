"""A claimed job: sends heartbeats and applies the registry's answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Generic, TypeVar

from tunix_rt.worker.jobs import Ending, Granted, HeartbeatAnswer, Jobs, Progress, Released
from tunix_rt.worker.retries import RetryPolicy

P = TypeVar("P")
# A lease lasts several times as long.
_LONGEST_PAUSE_SECONDS = 2.0


class Claim(Generic[P]):
    """One attempt at a job. ``payload`` says what is to be done; set ``progress`` to what heartbeats are to report."""

    def __init__(self, granted: Granted, jobs: Jobs) -> None:
        self.lease = granted.lease
        self.payload: P = granted.payload
        self.progress: Callable[[], Progress | None] = lambda: None
        self._jobs = jobs
        # Outages of the registry of any length are tolerated: finished work is kept.
        self._retries = RetryPolicy("the registry", longest_seconds=_LONGEST_PAUSE_SECONDS)
        self._resumed_step = 0
        self._reported: tuple[Progress | None, int] = (None, 0)
        self._answer: HeartbeatAnswer | None = None
        self._answered = asyncio.Event()
        self._urgent = asyncio.Event()

    def resumed(self, step: int) -> None:
        """The attempt resumed from the checkpoint of ``step``; reported at once."""
        self._resumed_step = step
        self._urgent.set()

    async def answers(self) -> AsyncIterator[HeartbeatAnswer]:
        """The registry's newest answer, and the next one after every heartbeat."""
        while True:
            answered = self._answered
            if self._answer is not None:
                yield self._answer
            await answered.wait()

    async def cancellation(self) -> str:
        """Wait until cancellation is requested; the name of its Reason."""
        async for answer in self.answers():
            if answer.cancel_reason is not None:
                return answer.cancel_reason
        raise AssertionError("answers do not end")

    async def send_heartbeats(self, every_seconds: float) -> None:
        """Keep the lease until cancelled. Raises `Aborted` when it is lost."""
        while True:
            self._urgent.clear()
            await self._retries.call(self._heartbeat)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every_seconds):
                    await self._urgent.wait()

    async def report_last_progress(self) -> None:
        """One heartbeat more, if anything has changed since the last one."""
        if self._reported != self._state():
            await self._retries.call(self._heartbeat)

    async def _heartbeat(self) -> None:
        state = self._state()
        self._answer = await self._jobs.heartbeat(self.lease, *state)
        self._reported = state
        self._answered.set()
        self._answered = asyncio.Event()

    def _state(self) -> tuple[Progress | None, int]:
        return self.progress(), self._resumed_step


CarryOut = Callable[[Claim[P], asyncio.Event], Coroutine[Any, Any, Ending]]
"""Carries out a claimed job once: ``carry_out(claim, stop) -> Ending``.

``stop`` is set when the service is to end; then it raises `Released`. It must end soon after `Claim.cancellation`
returns, and leave nothing running when it returns, raises or is cancelled (the lease was lost). `unless_interrupted`
does all three for work that may be cancelled anywhere. Any other exception is a failure that is tried again.
"""


async def unless_interrupted(work: Coroutine[Any, Any, Ending], claim: Claim[P], stop: asyncio.Event) -> Ending:
    """The ending of ``work``; it is cancelled when cancellation is requested, and (`Released`) when ``stop`` is set."""
    working = asyncio.create_task(work)
    cancelling = asyncio.create_task(claim.cancellation())
    stopping = asyncio.create_task(stop.wait())
    tasks = (working, cancelling, stopping)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if cancelling.done():
            return Ending("CANCELLED", cancelling.result(), "cancelled while it ran")
        raise Released("the worker stops")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
