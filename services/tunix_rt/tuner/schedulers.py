"""Ray Tune's early-stopping schedulers. The registry carries out their decisions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from tunix_rt.tuner.plan import Scheduling
from tunix_rt.tuner.trainable import STEP, VALUE
from tunix_rt.tuner.trials import Point

# Rungs of ASHA if the length of trials is unknown.
_RUNGS = 8


class TrialStopper(Protocol):
    """Stops trials, as `TrialRegistry` does."""

    def stop(self, number: int, message: str) -> Any: ...


class _EndedTrial:
    """In place of Ray's trial, for one that ended in an earlier attempt. Ray's algorithms use its id and identity."""

    def __init__(self, number: int) -> None:
        self.trial_id = f"ended-{number}"


class _ControllerStub:
    """In place of Ray's controller while a trial is replayed."""

    def get_live_trials(self) -> set[Any]:
        return set()


class RegistryScheduler(FIFOScheduler):
    """Passes every point to ``rule``, a scheduler of Ray. STOP becomes a StopTrial call; Ray's trial ends with the run.

    So a stopped trial counts as running until its trainer is free, and the search learns its outcome from the registry.
    A trial that has reached ``longest`` steps is not stopped: only its score is missing.
    """

    def __init__(self, rule: Any, registry: TrialStopper, longest: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rule = rule
        self._registry = registry
        self._longest = longest
        # By Ray's trial id: the last point that the rule saw, and the trials that were stopped.
        self._last: dict[str, dict[str, Any]] = {}
        self._stopped: set[str] = set()

    def replay(self, number: int, points: Iterable[Point]) -> None:
        """Pass a trial of an earlier attempt to the rule; its decisions have been carried out and are ignored."""
        trial, controller = _EndedTrial(number), _ControllerStub()
        self.on_trial_add(controller, trial)
        for point in points:
            self._ask(controller, trial, {STEP: point.step, VALUE: point.value})
        self.on_trial_complete(controller, trial, {})

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
        """The rule's decision on a point; CONTINUE if it has seen the point already."""
        step = result.get(STEP)
        last = self._last.get(trial.trial_id)
        if step is None or trial.trial_id in self._stopped or (last is not None and step <= last[STEP]):
            return str(TrialScheduler.CONTINUE)
        self._last[trial.trial_id] = {STEP: step, VALUE: result[VALUE]}
        if self._longest is not None and step >= self._longest:
            return str(TrialScheduler.CONTINUE)
        return str(self._rule.on_trial_result(tune_controller, trial, result))


def build_scheduler(scheduling: Scheduling | None, registry: TrialStopper) -> FIFOScheduler | RegistryScheduler:
    """Ray Tune's scheduler for ``scheduling``."""
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
            # Never pause a trial in favour of another: its run would continue.
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
