"""The Ray actor of each trial: it trains nothing, and passes the registry's updates of the trial to Ray Tune."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import Any

from ray.tune import Trainable

from tunix_rt.tuner.trials import Trial, TrialRegistry, Update
from tunix_rt.worker.jobs import Lease

# Keys of results: training step, value of the scheduler's metric, and in the last result the ended trial.
STEP = "step"
VALUE = "value"
ENDED = "ended"


class WatchedTrial(Trainable):
    """``config``: ``number`` of an existing trial, ``lease``, and whether to report ``points``.

    Each step waits on the registry's stream for the next point or the end. A failed trial is a normal result, not an
    error. An actor that dies loses nothing: the next one reads the trial from the registry. Reused for later trials,
    with the same channel.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._results: deque[dict[str, Any]] = deque()
        self._points = bool(config["points"])
        self._updates: Iterator[Update] = _registry(Lease(**config["lease"])).watch(config["number"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        while not self._results:
            update = next(self._updates)
            if self._points:
                self._results.extend({STEP: point.step, VALUE: point.value} for point in update.points)
            if update.trial.ended:
                self._results.append({ENDED: update.trial, "done": True})
        return self._results.popleft()


def ended_trial(result: dict[str, Any]) -> Trial | None:
    """The ended trial in a last result; None in others."""
    trial: Trial | None = result.get(ENDED)
    return trial


@cache
def _registry(lease: Lease) -> TrialRegistry:
    return TrialRegistry.connect(lease)
