"""Ray Tune's population-based training over a sweep's trials, with its decisions carried out by the registry.

Ray's rule takes a `Member` for a trial of its own and a `_Looked` for its controller. What it does to them, a member
that goes on from another one's checkpoint with changed parameters, becomes a trial that takes the member's place.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, Protocol

import numpy as np
from ray.tune.schedulers import FIFOScheduler, PopulationBasedTraining, TrialScheduler

from tunix_rt.contract.rules import Scalar
from tunix_rt.errors import FailedPrecondition, InvalidInput
from tunix_rt.observability.logs import get_logger
from tunix_rt.search_space.population import Origin, number_of, place_of
from tunix_rt.tuner.mutations import changed_within, mutations_of
from tunix_rt.tuner.plan import Plan
from tunix_rt.tuner.trainable import STEP, VALUE
from tunix_rt.tuner.trials import Point, Trial

# A checkpoint is recorded a moment after the point of its step; a large one takes longer than the others can wait.
_PATIENCE_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = 0.1
_log = get_logger(__name__)


class Replaces(Protocol):
    """Finds and creates trials, as `TrialRegistry` does."""

    def get(self, number: int) -> Trial: ...
    def create(
        self,
        number: int,
        parameters: Mapping[str, Scalar],
        observed: tuple[int, ...] = (),
        origin: Origin | None = None,
    ) -> Trial: ...


@dataclass(frozen=True)
class Checkpoint:
    """What Ray's rule has for a checkpoint: where it lies is the registry's to know."""

    number: int
    step: int


class Member:
    """One of a population: ``number`` is that of its newest trial, which started at step ``start``."""

    status = "RUNNING"
    experiment_tag = ""

    def __init__(self, trial: Trial) -> None:
        self.number = trial.number
        self.start = trial.start
        self.config = changed_within((), trial.parameters)
        self.ended = trial.ended
        # Training step of the last point that the rule saw.
        self.seen = trial.start
        self.run_metadata: Any = SimpleNamespace(
            checkpoint_manager=SimpleNamespace(
                checkpoint_config=SimpleNamespace(num_to_keep=None), _latest_checkpoint_result=None
            )
        )

    @property
    def trial_id(self) -> str:
        return f"trial-{self.number}"

    def is_finished(self) -> bool:
        return self.ended

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config

    def set_experiment_tag(self, tag: str) -> None:
        """Ray's display only."""

    def take_checkpoint(self) -> Checkpoint | None:
        """What the rule wants it to go on from; None: nothing new."""
        manager = self.run_metadata.checkpoint_manager
        found, manager._latest_checkpoint_result = manager._latest_checkpoint_result, None
        return None if found is None else found.checkpoint


class _Looked:
    """Stands for Ray's controller: nobody waits for another's place, and a checkpoint is a number and a step."""

    search_alg = None

    def __init__(self, members: Mapping[int, Member], interval_steps: int) -> None:
        self._members = members
        self._interval_steps = interval_steps

    def get_trials(self) -> list[Member]:
        return list(self._members.values())

    def pause_trial(self, trial: Member, should_checkpoint: bool) -> None:
        """The registry stops its run, with the trial that takes its place."""

    def _schedule_trial_save(self, trial: Member, result: dict[str, Any]) -> Checkpoint:
        return Checkpoint(trial.number, result[STEP] // self._interval_steps * self._interval_steps)


class PopulationScheduler(FIFOScheduler):
    """Asks Ray's `PopulationBasedTraining` about every point.

    A replacing trial is created at the registry, which stops the one before it; ``attach`` then hands its number to
    Ray. One that the registry refuses is none: the member goes on as it is. What is drawn for it depends on seed, trial
    and step alone. A checkpoint that is not recorded within ``patience_seconds`` gives way to that of the look before.
    """

    def __init__(
        self,
        plan: Plan,
        registry: Replaces,
        attach: Callable[[int], None],
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        scheduling = plan.scheduling
        assert scheduling is not None
        self._registry = registry
        self._attach = attach
        self._patience_seconds = patience_seconds
        self._seed = plan.seed
        self._population = plan.space.num_samples
        self._longest = scheduling.longest
        self._members: dict[int, Member] = {}
        self._interval_steps = scheduling.interval_steps
        self._looked = _Looked(self._members, scheduling.interval_steps)
        self._rule: Any = PopulationBasedTraining(
            time_attr=STEP,
            metric=VALUE,
            mode=scheduling.mode,
            perturbation_interval=scheduling.interval_steps,
            burn_in_period=scheduling.grace_steps,
            hyperparam_mutations=mutations_of(plan.space),
            quantile_fraction=scheduling.quantile_fraction,
            resample_probability=scheduling.resample_probability,
            custom_explore_fn=lambda config: changed_within(plan.space.parameters, config),
            log_config=False,
        )

    def recall(self, trials: Sequence[Trial], points: Callable[[int], Iterable[Point]]) -> None:
        """Take up a population whose driver has ended. ``points`` gives what a trial has reported.

        What was decided on those points has been decided.
        """
        newest = {place_of(trial.number, self._population)[1]: trial for trial in trials}
        for index, trial in newest.items():
            member = self._add(index, trial)
            for point in () if trial.ended else points(trial.number):
                self._remember(member, point)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        number = trial.config["number"]
        _, index = place_of(number, self._population)
        if index not in self._members:
            self._add(index, self._registry.get(number))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        member = self._member(trial)
        step = result.get(STEP)
        late = self._longest is not None and step is not None and step >= self._longest
        if member is None or step is None or late or step <= member.seen:
            return str(TrialScheduler.CONTINUE)
        member.seen = step
        before = member.config
        random.seed(f"{self._seed}/{member.number}/{step}")
        np.random.seed(random.getrandbits(32))
        self._rule.on_trial_result(self._looked, member, {STEP: step, VALUE: result[VALUE]})
        checkpoint = member.take_checkpoint()
        if checkpoint is not None and not self._replace(member, checkpoint):
            member.config = before
            state = self._state(member)
            state.last_perturbation_time = state.last_train_time = step
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        member = self._member(trial)
        if member is not None:
            member.ended = True

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self.on_trial_complete(tune_controller, trial, {})

    def _member(self, trial: Any) -> Member | None:
        """Whose newest trial it is; None: another one has taken its place."""
        number = trial.config["number"]
        member = self._members[place_of(number, self._population)[1]]
        return member if member.number == number else None

    def _add(self, index: int, trial: Trial) -> Member:
        member = self._members[index] = Member(trial)
        self._rule.on_trial_add(self._looked, member)
        self._state(member).last_perturbation_time = member.start
        return member

    def _state(self, member: Member) -> Any:
        """What the rule knows of ``member``."""
        return self._rule._trial_state[member]

    def _remember(self, member: Member, point: Point) -> None:
        """A look at ``member`` that has been, as the rule remembers it."""
        if point.step <= member.seen or (self._longest is not None and point.step >= self._longest):
            return
        member.seen = point.step
        state = self._state(member)
        since = point.step - state.last_perturbation_time
        if since < self._rule._perturbation_interval or point.step < self._rule._burn_in_period:
            return
        result = {STEP: point.step, VALUE: point.value}
        self._rule._save_trial_state(state, point.step, result, member)
        state.last_perturbation_time = point.step
        state.last_checkpoint = self._looked._schedule_trial_save(member, result)

    def _replace(self, member: Member, checkpoint: Checkpoint) -> bool:
        """Whether a trial that goes on from ``checkpoint``, or from the one before it, has taken the member's place."""
        generation, index = place_of(member.number, self._population)
        number = number_of(index, generation + 1, self._population)
        parent = self._registry.get(checkpoint.number)
        earlier = checkpoint.step - self._interval_steps
        steps = [checkpoint.step, *([earlier] if earlier > parent.start else [])]
        step = self._create(member, number, [Origin(index, generation + 1, parent.id, step) for step in steps])
        if step is None:
            _log.info("a member goes on as it is", trial=member.number, parent=parent.number, step=checkpoint.step)
            return False
        member.number, member.start, member.seen = number, step, step
        # Ray takes it for the parent's last look, which the member may not have come to.
        self._state(member).last_perturbation_time = step
        self._attach(number)
        return True

    def _create(self, member: Member, number: int, origins: Sequence[Origin]) -> int | None:
        """The step of the first of ``origins`` that has a checkpoint; None: the registry refuses all."""
        deadline = time.monotonic() + self._patience_seconds
        left = deque(origins)
        while left:
            try:
                self._registry.create(number, member.config, (), left[0])
            except InvalidInput as error:
                _log.warning("the registry refuses a replacement", trial=number, error=str(error))
                return None
            except FailedPrecondition:
                if self._registry.get(member.number).ended:
                    return None
                if time.monotonic() < deadline:
                    time.sleep(_AGAIN_SECONDS)
                else:
                    left.popleft()
            else:
                return left[0].parent_step
        return None
