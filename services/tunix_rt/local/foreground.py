"""Runs a platform until this process gets SIGINT or SIGTERM. Only the main thread may call this.

The signals wake the main thread through a pipe: a handler may run while that thread holds a lock, so it takes none.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from tunix_rt.local.supervisor import LocalPlatform, StartInterrupted


def run_until_signalled(platform: LocalPlatform, on_ready: Callable[[], None] | None = None) -> None:
    """Start the platform, call ``on_ready``, wait for SIGTERM or SIGINT, stop it in order.

    A signal during the start ends the start. A second one while stopping changes nothing: the stop is bounded in
    time, and an abandoned one would leave work half done.
    """
    with stop_signals(platform.interrupt_start) as wait:
        try:
            platform.start()
        except StartInterrupted:
            return  # start() has stopped what it had started
        try:
            if on_ready is not None:
                on_ready()
            wait()
        finally:
            platform.stop()


@contextmanager
def stop_signals(on_signal: Callable[[], None] = lambda: None) -> Iterator[Callable[[], None]]:
    """Within the block SIGINT and SIGTERM are caught; yields a function that blocks until one has come.

    ``on_signal`` is called in the handler. Former handlers are restored.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def handle(number: int, frame: FrameType | None) -> None:
        on_signal()
        with suppress(BlockingIOError):  # a full pipe wakes the reader, too
            os.write(writer, b".")

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: _read(reader)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _read(descriptor: int) -> None:
    os.read(descriptor, 1)
