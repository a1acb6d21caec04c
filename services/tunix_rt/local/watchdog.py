"""Restarts what lives but does not work, and keeps logs from growing without a bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tunix_rt.local.child import Child
from tunix_rt.observability.logs import get_logger

EVERY_SECONDS: Final = 5.0
# How long one question may take.
PATIENT_SECONDS: Final = 5.0
_log = get_logger(__name__)


class Watchdog(threading.Thread):
    """Asks ``ailing(part)`` of every child every few seconds: a text says what is wrong with it, "" nothing.

    A process that has been up, and ailing, for ``patience_seconds`` is killed, and its supervisor starts it again.
    """

    def __init__(
        self,
        children: Mapping[str, Child],
        ailing: Callable[[str], str],
        *,
        patience_seconds: float,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._children, self._ailing = children, ailing
        self._patience, self._every = patience_seconds, every_seconds
        self._since: dict[str, float] = {}
        self._over = threading.Event()

    def run(self) -> None:
        with ThreadPoolExecutor(max_workers=max(1, len(self._children)), thread_name_prefix="watchdog") as pool:
            while not self._over.wait(self._every):
                for (name, child), problem in zip(
                    self._children.items(), pool.map(self._ailing, self._children), strict=True
                ):
                    self._judge(name, child, problem)
                    child.rotate_log()

    def end(self) -> None:
        """Watch no longer; returns when nothing will be killed any more."""
        self._over.set()
        if self.ident is not None:
            self.join()

    def _judge(self, name: str, child: Child, problem: str) -> None:
        now = time.monotonic()
        if not problem:
            self._since.pop(name, None)
            return
        since = self._since.setdefault(name, now)
        if now - since >= self._patience and child.seconds_up >= self._patience and not self._over.is_set():
            _log.error("a part does not work and is started again", part=name, problem=problem)
            self._since.pop(name)
            child.kill()
