"""Stops a run whose held-out loss no longer falls, as Transformers' `EarlyStoppingCallback` does.

The state is a small JSON document that belongs to the checkpoint, so a resumed run stops where an uninterrupted one
does.
"""

from __future__ import annotations

from typing import Any, Self


class EarlyStopping:
    """Takes the held-out loss of each evaluation, in order.

    ``patience``: this many evaluations in a row without a loss more than ``threshold`` below the lowest before them end
    the run; 0: none do.
    """

    def __init__(self, patience: int, threshold: float = 0.0) -> None:
        self._patience, self._threshold = patience, threshold
        self._best: float | None = None
        self._without = 0

    @property
    def due(self) -> bool:
        """Whether the run has to stop."""
        return 0 < self._patience <= self._without

    @property
    def best(self) -> float | None:
        """The lowest loss so far."""
        return self._best

    def record(self, loss: float) -> None:
        """The finite loss of the next evaluation."""
        improved = self._best is None or self._best - loss > self._threshold
        self._without = 0 if improved else self._without + 1
        self._best = loss if self._best is None else min(self._best, loss)

    def position(self) -> dict[str, Any]:
        """The state, as JSON."""
        return {"best": self._best, "without": self._without}

    def seek(self, position: dict[str, Any]) -> Self:
        """Restore the state of another; an empty document resets it."""
        self._best, self._without = position.get("best"), int(position.get("without", 0))
        return self
