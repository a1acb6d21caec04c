"""Bounds what compiled programs take: JAX keeps each one for the life of the process, models that are gone included."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

import jax

# A process that serves people's models sees a handful of shapes; one that is given each model once sees thousands, at
# some 0.3 MiB each for models of a few thousand parameters, and more for larger ones.
MOST_SHAPES = 64


class KeptShapes:
    """Counts the distinct shapes since the last ``drop``, and drops when there would be more than ``most``.

    A drop is rare and harmless: models that are still served compile their programs again at their next request.
    """

    def __init__(self, drop: Callable[[], None], most: int = MOST_SHAPES) -> None:
        self._drop = drop
        self._most = most
        self._shapes: set[Hashable] = set()
        self._lock = threading.Lock()

    def note(self, shape: Hashable) -> None:
        """Say that programs of ``shape`` are about to be compiled or used."""
        with self._lock:
            if shape not in self._shapes and len(self._shapes) >= self._most:
                self._shapes.clear()
                self._drop()
            self._shapes.add(shape)


def dropping(*caches: Callable[[], None]) -> Callable[[], None]:
    """A function that empties ``caches`` and JAX's own."""

    def drop() -> None:
        for clear in caches:
            clear()
        jax.clear_caches()  # type: ignore[no-untyped-call]

    return drop
