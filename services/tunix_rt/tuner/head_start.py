"""Trials that start before Ray does. Ray takes its time to start; the first suggestions are known, so why wait.

Never more trials at once than the sweep allows, and in order of suggestion: Ray's own trials find them begun or done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from tunix_rt.errors import TunixError
from tunix_rt.search_space.rules import Scalar
from tunix_rt.tuner.trials import Trial

CarryOut = Callable[[int, Mapping[str, Scalar]], Trial]


class HeadStart:
    """Carries out suggestions in ``concurrency`` daemon threads until it is told that Ray is there."""

    def __init__(self, suggestions: Sequence[Mapping[str, Scalar]], carry_out: CarryOut, concurrency: int) -> None:
        self._todo: Iterator[tuple[int, Mapping[str, Scalar]]] = iter(enumerate(suggestions))
        self._carry_out = carry_out
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(concurrency)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Begin no more trials; those that run are left to Ray's."""
        with self._lock:
            self._over.set()

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._over.is_set():
                    return
                try:
                    number, parameters = next(self._todo)
                except StopIteration:
                    return
            try:
                self._carry_out(number, parameters)
            except TunixError:
                return  # Ray's own trial meets the same error, and reports it
