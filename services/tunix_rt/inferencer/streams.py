"""Between the engine's thread and the event loop: answers as asynchronous iterators, long requests read in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from tunix_rt.inferencer.driver import Driver
from tunix_rt.inferencer.generation import Delta, Failure, GenerationRequest
from tunix_rt.inferencer.scheduler import Scheduler
from tunix_rt.inferencer.text import Transcript

_T = TypeVar("_T")
# Larger requests (bytes) are parsed in a thread, to keep the event loop responsive.
_LONG_REQUEST = 4096
_Arrived = asyncio.Queue[tuple[int, Delta | Failure]]


async def read_apart(size: int, read: Callable[[], _T]) -> _T:
    """The result of ``read``, which waits for nothing, for a request of ``size`` bytes; a long one is read in a
    thread."""
    return await asyncio.to_thread(read) if size > _LONG_REQUEST else read()


@contextmanager
def submitted(
    driver: Driver, scheduler: Scheduler, requests: Sequence[tuple[GenerationRequest, Transcript]]
) -> Iterator[AsyncIterator[tuple[int, Delta]]]:
    """Queue the requests. Yields their deltas as they arrive, each with the request's index.

    Leaving the block frees the slots. Raises `Exhausted` if the queue cannot take all of them. The iterator raises the
    engine's failure. The backlog of a slow reader is bounded by the requests' ``max_new_tokens``.
    """
    loop = asyncio.get_running_loop()
    arrived: _Arrived = asyncio.Queue()

    def sink_of(index: int) -> Callable[[Delta | Failure], None]:
        def sink(event: Delta | Failure) -> None:
            if not loop.is_closed():  # the service is shutting down
                loop.call_soon_threadsafe(arrived.put_nowait, (index, event))

        return sink

    tickets = scheduler.submit_all([(*request, sink_of(index)) for index, request in enumerate(requests)])
    driver.wake()
    try:
        yield _until_finished(arrived, len(requests))
    finally:
        for ticket in tickets:
            ticket.cancel()
        driver.wake()


async def generate(
    driver: Driver, scheduler: Scheduler, generation: GenerationRequest, transcript: Transcript
) -> AsyncGenerator[Delta, None]:
    """Deltas of one request, which is queued at the first iteration. Closing the iterator early frees the slot."""
    with submitted(driver, scheduler, [(generation, transcript)]) as deltas:
        async for _, delta in deltas:
            yield delta


async def _until_finished(arrived: _Arrived, running: int) -> AsyncIterator[tuple[int, Delta]]:
    while running:
        index, event = await arrived.get()
        if isinstance(event, Failure):
            raise event.error
        running -= event.finish is not None
        yield index, event
