"""Waiting for SIGINT and SIGTERM without the traps of handlers: only the main thread may call this."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def stop_signals(on_signal: Callable[[], None] = lambda: None) -> Iterator[Callable[[], None]]:
    """Within the block SIGINT and SIGTERM are caught; yields a function that blocks until one has come.

    ``on_signal`` is called in the handler. Handlers of before are restored.
    """
    # A pipe and not a threading.Event: the handler may run while this thread holds the event's own lock.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def handle(number: int, frame: FrameType | None) -> None:
        on_signal()
        with suppress(BlockingIOError):  # a full pipe says already what there is to say
            os.write(writer, b".")

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: _read(reader)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def wait_for_signal() -> None:
    """Block until SIGINT or SIGTERM."""
    with stop_signals() as wait:
        wait()


def _read(descriptor: int) -> None:
    os.read(descriptor, 1)
