"""Restarts what lives but does not work, and a log's writer that has died."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tunix_rt.local.child import Child
from tunix_rt.observability.logs import get_logger

EVERY_SECONDS: Final = 5.0
# Of a part that is started again and again.
LONGEST_PATIENCE_SECONDS: Final = 600.0
# How long one question may take.
PATIENT_SECONDS: Final = 5.0
_log = get_logger(__name__)


class Watchdog(threading.Thread):
    """Asks ``ailing(part)`` of every child every few seconds: a text says what is wrong with it, "" nothing.

    A process that has been up, and ailing, for ``patience_seconds`` is killed, and its supervisor starts it again.
    Until it is well once, each life gets twice the time of the one before: on a busy machine a start takes long.
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
        self._in_vain: Counter[str] = Counter()
        self._over = threading.Event()

    def run(self) -> None:
        with ThreadPoolExecutor(max_workers=max(1, len(self._children)), thread_name_prefix="watchdog") as pool:
            while not self._over.wait(self._every):
                for (name, child), problem in zip(
                    self._children.items(), pool.map(self._ailing, self._children), strict=True
                ):
                    self._judge(name, child, problem)
                    child.keep_log()

    def end(self) -> None:
        """Watch no longer; returns when nothing will be killed any more."""
        self._over.set()
        if self.ident is not None:
            self.join()

    def _judge(self, name: str, child: Child, problem: str) -> None:
        now = time.monotonic()
        if not problem:
            self._since.pop(name, None)
            self._in_vain.pop(name, None)
            return
        since = self._since.setdefault(name, now)
        patience = min(self._patience * 2 ** self._in_vain[name], max(self._patience, LONGEST_PATIENCE_SECONDS))
        if now - since >= patience and child.seconds_up >= patience and not self._over.is_set():
            _log.error("a part does not work and is started again", part=name, problem=problem)
            self._since.pop(name)
            self._in_vain[name] += 1
            child.kill()
