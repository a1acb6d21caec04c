"""The way from RPCs to what lies in NATS: there only while the registry is connected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tunix_rt.bus.dead_letter_stream import DeadLetterStream
from tunix_rt.errors import Transient


class BusLink:
    """Holds the dead letters of the connection that `registry.app` keeps. For one event loop."""

    def __init__(self) -> None:
        self._letters: DeadLetterStream | None = None

    @contextmanager
    def connected(self, letters: DeadLetterStream) -> Iterator[None]:
        """Inside the block the registry is connected."""
        self._letters = letters
        try:
            yield
        finally:
            self._letters = None

    @property
    def letters(self) -> DeadLetterStream:
        """Raises `Transient` while there is no connection."""
        if self._letters is None or not self._letters.is_connected:
            raise Transient("NATS, where dead letters lie, cannot be reached; `tunix-rt status` says what is wrong")
        return self._letters
