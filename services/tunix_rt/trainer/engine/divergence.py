"""Detects divergence from the training losses, and tolerates noise.

The state is a small JSON document that belongs to the checkpoint, so a resumed run decides like an uninterrupted one.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any, Self

# Number of losses in the running median.
WINDOW = 50
# A loss is suspicious when it exceeds both this multiple of the median …
FACTOR = 3.0
# … and this share of the loss of uniform guessing, a perplexity of the square root of the vocabulary.
UNIFORM_SHARE = 0.5
# Number of consecutive suspicious losses that count as divergence.
PATIENCE = 10


class DivergenceWatch:
    """Takes the loss of each optimizer step, in order.

    A loss is *suspicious* when it exceeds ``max(3 × the median of the last 50 unsuspicious losses, ½ ln V)``; ten
    suspicious losses in a row are a divergence. The median ignores single spikes, the streak forgives bursts that
    recover, and the absolute threshold lets an overfitted run jump from 0.001 to 0.1. A run from random parameters
    starts at ln V, where only three times its initial loss is suspicious, so warm-up needs no special rule.
    """

    def __init__(self, vocab_size: int) -> None:
        self._floor = UNIFORM_SHARE * math.log(vocab_size)
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._streak = 0

    @property
    def suspicious(self) -> bool:
        """Whether the last loss was suspicious; the current state may already have diverged."""
        return self._streak > 0

    @property
    def bar(self) -> float:
        """The threshold for the next loss; infinite before the first."""
        return max(FACTOR * median(self._recent), self._floor) if self._recent else math.inf

    def diverged(self, loss: float) -> bool:
        """Record the loss of the next step; true when the run must be stopped. Always true for NaN and infinity."""
        if not math.isfinite(loss):
            return True
        if loss > self.bar:
            self._streak += 1
            return self._streak >= PATIENCE
        self._streak = 0
        self._recent.append(loss)
        return False

    def position(self) -> dict[str, Any]:
        """The state, as JSON."""
        return {"recent": list(self._recent), "streak": self._streak}

    def seek(self, position: dict[str, Any]) -> Self:
        """Restore the state of another watch; an empty document resets it."""
        self._recent = deque(position.get("recent", ()), maxlen=WINDOW)
        self._streak = int(position.get("streak", 0))
        return self
