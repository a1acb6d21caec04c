"""Ray Tune's schedulers that stop trials early, with their decisions carried out by the registry."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from tunix_rt.tuner.plan import Scheduling
from tunix_rt.tuner.trainable import STEP, VALUE
from tunix_rt.tuner.trials import Point

# Rungs that ASHA has where nobody knows how long trials are.
_RUNGS = 8


class Stops(Protocol):
    """Stops trials, as `TrialRegistry` does."""

    def stop(self, number: int, message: str) -> Any: ...


class _Remembered:
    """Stands for a trial of an earlier attempt. Ray's rules know trials by this id and by identity."""

    def __init__(self, number: int) -> None:
        self.trial_id = f"remembered-{number}"


class _NoOthers:
    """Stands for Ray's controller while a trial is remembered."""

    def get_live_trials(self) -> set[Any]:
        return set()


class RegistryScheduler(FIFOScheduler):
    """Asks ``rule`` about every point. Its STOP is a call of StopTrial; Ray's trial goes on until the run has ended.

    So a stopped trial keeps its place until its trainer is free, and the search learns how it ended from the registry.
    A trial that has come to ``longest`` steps is not stopped any more: it only waits to be scored.
    """

    def __init__(self, rule: Any, registry: Stops, longest: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rule = rule
        self._registry = registry
        self._longest = longest
        # By Ray's id: the last point that the rule saw, and what was stopped.
        self._last: dict[str, dict[str, Any]] = {}
        self._stopped: set[str] = set()

    def remember(self, number: int, points: Iterable[Point]) -> None:
        """Show the rule a trial that has ended; what it decides has been decided."""
        trial, others = _Remembered(number), _NoOthers()
        self.on_trial_add(others, trial)
        for point in points:
            self._ask(others, trial, {STEP: point.step, VALUE: point.value})
        self.on_trial_complete(others, trial, {})

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._rule.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._rule.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self._ask(tune_controller, trial, result) == TrialScheduler.STOP:
            number = trial.config["number"]
            self._registry.stop(number, f"{type(self._rule).__name__} at step {result[STEP]}: {result[VALUE]:.6g}")
            self._stopped.add(trial.trial_id)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._stopped.discard(trial.trial_id)
        last = self._last.pop(trial.trial_id, None)
        if last is None:
            self._rule.on_trial_remove(tune_controller, trial)
        else:
            self._rule.on_trial_complete(tune_controller, trial, last)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._last.pop(trial.trial_id, None)
        self._rule.on_trial_remove(tune_controller, trial)

    def _ask(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """The rule's decision on a point that it has not seen."""
        step = result.get(STEP)
        last = self._last.get(trial.trial_id)
        if step is None or trial.trial_id in self._stopped or (last is not None and step <= last[STEP]):
            return str(TrialScheduler.CONTINUE)
        self._last[trial.trial_id] = {STEP: step, VALUE: result[VALUE]}
        if self._longest is not None and step >= self._longest:
            return str(TrialScheduler.CONTINUE)
        return str(self._rule.on_trial_result(tune_controller, trial, result))


def build_scheduler(scheduling: Scheduling | None, registry: Stops) -> FIFOScheduler | RegistryScheduler:
    """Ray Tune's scheduler for a plan's."""
    if scheduling is None:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    return RegistryScheduler(_rule(scheduling), registry, scheduling.longest)


def _rule(scheduling: Scheduling) -> Any:
    if scheduling.kind == "MEDIAN_STOPPING":
        return MedianStoppingRule(
            time_attr=STEP,
            metric=VALUE,
            mode=scheduling.mode,
            grace_period=scheduling.grace_steps,
            min_samples_required=scheduling.min_trials,
            # A trial is never paused for another: its run would go on.
            min_time_slice=math.inf,  # type: ignore[arg-type]
        )
    factor = scheduling.reduction_factor
    return ASHAScheduler(
        time_attr=STEP,
        metric=VALUE,
        mode=scheduling.mode,
        max_t=scheduling.longest or math.ceil(scheduling.grace_steps * factor**_RUNGS),
        grace_period=scheduling.grace_steps,
        reduction_factor=factor,
        brackets=scheduling.brackets,
    )
