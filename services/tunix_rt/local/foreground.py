"""Runs a platform until this process is told to stop. Must be called in the main thread."""

from __future__ import annotations

from collections.abc import Callable

from tunix_rt.local.signals import stop_signals
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
