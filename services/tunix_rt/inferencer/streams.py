"""From the engine's thread to the event loop: one request as an asynchronous iterator of deltas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from tunix_rt.inferencer.driver import Driver
from tunix_rt.inferencer.generation import Delta, Failure, Generation
from tunix_rt.inferencer.scheduler import Scheduler
from tunix_rt.inferencer.transcript import Transcript


async def generate(
    driver: Driver, scheduler: Scheduler, generation: Generation, transcript: Transcript
) -> AsyncGenerator[Delta, None]:
    """Deltas of one request, the last with its finish. Closing the iterator early frees the slot.

    Raises `Exhausted` when the line is full and the engine's failure. What a slow reader leaves behind is bounded by
    the request's own ``max_new_tokens``.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Delta | Failure] = asyncio.Queue()

    def sink(event: Delta | Failure) -> None:
        if not loop.is_closed():  # a loop that ended has nobody left to tell
            loop.call_soon_threadsafe(arrived.put_nowait, event)

    ticket = scheduler.submit(generation, transcript, sink)
    driver.wake()
    try:
        while True:
            event = await arrived.get()
            if isinstance(event, Failure):
                raise event.error
            yield event
            if event.finish is not None:
                return
    finally:
        ticket.cancel()
        driver.wake()
