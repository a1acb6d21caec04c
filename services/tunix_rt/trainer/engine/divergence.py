"""Tells a run that has blown up from one that is noisy, by its training losses alone.

Its whole state is a small JSON document that belongs to the checkpoint, so that a resumed run judges as the undisturbed
one does. Knows nothing of steps, arrays or files.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any, Self

# Losses that the median is taken over.
WINDOW = 50
# A loss is suspicious when it is both this many times that median …
FACTOR = 3.0
# … and this share of the loss of guessing uniformly: perplexity above the square root of the vocabulary.
UNIFORM_SHARE = 0.5
# So many suspicious losses in a row are a divergence.
PATIENCE = 10


class DivergenceWatch:
    """Judges one loss per optimizer step, in order.

    A loss is *suspicious* when it exceeds ``max(3 × the median of the last 50 unsuspicious losses, ½ ln V)``; ten
    suspicious losses in a row are a divergence. The median makes single spikes harmless, the streak forgives bursts
    that recover, the absolute bar lets a run that has learnt its data by heart stumble from 0.001 to 0.1. A run that
    starts from random parameters stands at ln V: only three times its own start is suspicious for it, so that warm-up
    needs no rule of its own.
    """

    def __init__(self, vocab_size: int) -> None:
        self._floor = UNIFORM_SHARE * math.log(vocab_size)
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._streak = 0

    @property
    def suspicious(self) -> bool:
        """Whether the last loss was suspicious: what the run is now may be what it will be stopped for."""
        return self._streak > 0

    @property
    def bar(self) -> float:
        """The loss above which the next one is suspicious; infinite before the first."""
        return max(FACTOR * median(self._recent), self._floor) if self._recent else math.inf

    def diverged(self, loss: float) -> bool:
        """Take in the loss of the next step; true when the run must be stopped for it. NaN and infinity always are."""
        if not math.isfinite(loss):
            return True
        if loss > self.bar:
            self._streak += 1
            return self._streak >= PATIENCE
        self._streak = 0
        self._recent.append(loss)
        return False

    def position(self) -> dict[str, Any]:
        """What it remembers, as JSON."""
        return {"recent": list(self._recent), "streak": self._streak}

    def seek(self, position: dict[str, Any]) -> Self:
        """Remember what another watch remembered; an empty document is a fresh start."""
        self._recent = deque(position.get("recent", ()), maxlen=WINDOW)
        self._streak = int(position.get("streak", 0))
        return self
