"""What Ray Tune runs for each trial: it trains nothing, it passes on what the registry says of the trial."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import Any

from ray.tune import Trainable

from tunix_rt.tuner.trials import Trial, TrialRegistry, Update
from tunix_rt.worker.jobs import Lease

# Of results: training step and value of what the scheduler compares; and of the last one, the trial as it ended.
STEP = "step"
VALUE = "value"
ENDED = "ended"


class WatchedTrial(Trainable):
    """``config``: ``number`` of a trial that exists, ``lease``, and whether to pass ``points`` on.

    Each step waits on the registry's stream: for the next point, or for the end. A trial that failed is no error of
    this class, and an actor that dies loses nothing: the next one finds the trial where it is. Used again for the next
    trial, with the same channel.
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
    """The trial of a last result, as it ended."""
    trial: Trial | None = result.get(ENDED)
    return trial


@cache
def _registry(lease: Lease) -> TrialRegistry:
    return TrialRegistry.connect(lease)
