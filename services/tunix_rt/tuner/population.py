"""Ray Tune's population-based training over a sweep's trials. The registry carries out its decisions.

Ray's algorithm sees a `Member` in place of its own trial and a `_ControllerStub` in place of its controller. When it
makes a member continue from another one's checkpoint with changed parameters, a new trial replaces the member's trial.
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
from tunix_rt.tuner.mutations import clipped_to, mutations_of
from tunix_rt.tuner.plan import Plan
from tunix_rt.tuner.trainable import STEP, VALUE
from tunix_rt.tuner.trials import Point, Trial

# A checkpoint is recorded shortly after the point of its step; the wait is bounded because the whole population waits.
_CHECKPOINT_TIMEOUT_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.1
_log = get_logger(__name__)


class TrialStore(Protocol):
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
    """A checkpoint for Ray's algorithm. Only the registry knows where its files are."""

    number: int
    step: int


class Member:
    """A member of the population: ``number`` is that of its newest trial, which started at step ``start``."""

    status = "RUNNING"
    experiment_tag = ""

    def __init__(self, trial: Trial) -> None:
        self.number = trial.number
        self.start = trial.start
        self.config = clipped_to((), trial.parameters)
        self.ended = trial.ended
        # Training step of the last point that Ray's algorithm saw.
        self.last_step = trial.start
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
        """No effect: the tag is only displayed."""

    def take_checkpoint(self) -> Checkpoint | None:
        """The checkpoint that Ray's algorithm makes it continue from; None: no change. Clears it."""
        manager = self.run_metadata.checkpoint_manager
        found, manager._latest_checkpoint_result = manager._latest_checkpoint_result, None
        return None if found is None else found.checkpoint


class _ControllerStub:
    """In place of Ray's controller: pauses nothing, and a checkpoint is the number of a trial and a step."""

    search_alg = None

    def __init__(self, members: Mapping[int, Member], interval_steps: int) -> None:
        self._members = members
        self._interval_steps = interval_steps

    def get_trials(self) -> list[Member]:
        return list(self._members.values())

    def pause_trial(self, trial: Member, should_checkpoint: bool) -> None:
        """No effect: the registry stops its run when the replacing trial is created."""

    def _schedule_trial_save(self, trial: Member, result: dict[str, Any]) -> Checkpoint:
        return Checkpoint(trial.number, result[STEP] // self._interval_steps * self._interval_steps)


class PopulationScheduler(FIFOScheduler):
    """Passes every point to Ray's `PopulationBasedTraining`.

    A replacing trial is created at the registry, which stops the replaced one; ``attach`` then hands its number to Ray.
    If the registry refuses it, the member continues unchanged. Random draws depend only on seed, trial and step. If a
    checkpoint is not recorded within ``checkpoint_timeout_seconds``, the one of an interval before is used.
    """

    def __init__(
        self,
        plan: Plan,
        registry: TrialStore,
        attach: Callable[[int], None],
        *,
        checkpoint_timeout_seconds: float = _CHECKPOINT_TIMEOUT_SECONDS,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        scheduling = plan.scheduling
        assert scheduling is not None
        self._registry = registry
        self._attach = attach
        self._checkpoint_timeout_seconds = checkpoint_timeout_seconds
        self._seed = plan.seed
        self._population = plan.space.num_samples
        self._longest = scheduling.longest
        self._members: dict[int, Member] = {}
        self._interval_steps = scheduling.interval_steps
        self._controller = _ControllerStub(self._members, scheduling.interval_steps)
        self._rule: Any = PopulationBasedTraining(
            time_attr=STEP,
            metric=VALUE,
            mode=scheduling.mode,
            perturbation_interval=scheduling.interval_steps,
            burn_in_period=scheduling.grace_steps,
            hyperparam_mutations=mutations_of(plan.space),
            quantile_fraction=scheduling.quantile_fraction,
            resample_probability=scheduling.resample_probability,
            custom_explore_fn=lambda config: clipped_to(plan.space.parameters, config),
            log_config=False,
        )

    def replay(self, trials: Sequence[Trial], points: Callable[[int], Iterable[Point]]) -> None:
        """Restore the state of a population whose driver has ended. ``points`` gives what a trial has reported.

        The decisions on those points have been carried out and are not repeated.
        """
        newest = {place_of(trial.number, self._population)[1]: trial for trial in trials}
        for index, trial in newest.items():
            member = self._add(index, trial)
            for point in () if trial.ended else points(trial.number):
                self._replay_point(member, point)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        number = trial.config["number"]
        _, index = place_of(number, self._population)
        if index not in self._members:
            self._add(index, self._registry.get(number))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        member = self._member(trial)
        step = result.get(STEP)
        late = self._longest is not None and step is not None and step >= self._longest
        if member is None or step is None or late or step <= member.last_step:
            return str(TrialScheduler.CONTINUE)
        member.last_step = step
        before = member.config
        random.seed(f"{self._seed}/{member.number}/{step}")
        np.random.seed(random.getrandbits(32))
        self._rule.on_trial_result(self._controller, member, {STEP: step, VALUE: result[VALUE]})
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
        """The member whose newest trial it is; None: the trial has been replaced."""
        number = trial.config["number"]
        member = self._members[place_of(number, self._population)[1]]
        return member if member.number == number else None

    def _add(self, index: int, trial: Trial) -> Member:
        member = self._members[index] = Member(trial)
        self._rule.on_trial_add(self._controller, member)
        self._state(member).last_perturbation_time = member.start
        return member

    def _state(self, member: Member) -> Any:
        """The state that Ray's algorithm keeps of ``member``."""
        return self._rule._trial_state[member]

    def _replay_point(self, member: Member, point: Point) -> None:
        """Restore what Ray's algorithm stored at a past point of ``member``."""
        if point.step <= member.last_step or (self._longest is not None and point.step >= self._longest):
            return
        member.last_step = point.step
        state = self._state(member)
        since = point.step - state.last_perturbation_time
        if since < self._rule._perturbation_interval or point.step < self._rule._burn_in_period:
            return
        result = {STEP: point.step, VALUE: point.value}
        self._rule._save_trial_state(state, point.step, result, member)
        state.last_perturbation_time = point.step
        state.last_checkpoint = self._controller._schedule_trial_save(member, result)

    def _replace(self, member: Member, checkpoint: Checkpoint) -> bool:
        """Whether the member's trial was replaced by one that starts from ``checkpoint`` or the one before."""
        generation, index = place_of(member.number, self._population)
        number = number_of(index, generation + 1, self._population)
        parent = self._registry.get(checkpoint.number)
        earlier = checkpoint.step - self._interval_steps
        steps = [checkpoint.step, *([earlier] if earlier > parent.start else [])]
        step = self._create(member, number, [Origin(index, generation + 1, parent.id, step) for step in steps])
        if step is None:
            _log.info("member is not replaced", trial=member.number, parent=parent.number, step=checkpoint.step)
            return False
        member.number, member.start, member.last_step = number, step, step
        # Ray has set it to the parent's last step, which the new trial may not have reached.
        self._state(member).last_perturbation_time = step
        self._attach(number)
        return True

    def _create(self, member: Member, number: int, origins: Sequence[Origin]) -> int | None:
        """The step of the first of ``origins`` that has a checkpoint, where the trial starts; None: all are refused."""
        deadline = time.monotonic() + self._checkpoint_timeout_seconds
        left = deque(origins)
        while left:
            try:
                self._registry.create(number, member.config, (), left[0])
            except InvalidInput as error:
                _log.warning("the registry refused a replacement trial", trial=number, error=str(error))
                return None
            except FailedPrecondition:
                if self._registry.get(member.number).ended:
                    return None
                if time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
                else:
                    left.popleft()
            else:
                return left[0].parent_step
        return None
