"""Ray's population-based training behind the registry: who is replaced, by what, and what a restart remembers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tunix_rt.errors import FailedPrecondition, InvalidInput
from tunix_rt.search_space.population import Origin
from tunix_rt.search_space.space import Parameter, Space
from tunix_rt.tuner.mutations import clipped_to, mutations_of
from tunix_rt.tuner.plan import Plan, Scheduling
from tunix_rt.tuner.population import PopulationScheduler
from tunix_rt.tuner.trials import Point, Trial

RATE = Parameter("learning_rate", "loguniform", (), {"low": 1e-4, "high": 1e-2})
BATCH = Parameter("per_device_batch_size", "choice", (4, 8, 16))
# Four members are looked at every 20 of 100 steps; the worst one of them is replaced.
PLAN = Plan(
    Space((RATE, BATCH), "RANDOM", 4),
    7,
    "max",
    4,
    scheduling=Scheduling("PBT", "min", 10, 0.0, 0, 0, 100, 20, 0.25, 0.0),
)


class Registry:
    def __init__(self) -> None:
        self.trials = {
            n: Trial(n, {"learning_rate": 1e-3 * (n + 1), "per_device_batch_size": 8}, (), "RUNNING", id=f"t-{n}")
            for n in range(4)
        }
        self.origins: dict[int, Origin] = {}
        self.refusals: list[Exception] = []

    def get(self, number: int) -> Trial:
        return self.trials[number]

    def create(
        self, number: int, parameters: Any, observed: tuple[int, ...] = (), origin: Origin | None = None
    ) -> Trial:
        if self.refusals:
            raise self.refusals.pop(0)
        assert origin is not None
        assert number not in self.trials
        self.origins[number] = origin
        self.trials[number] = Trial(number, dict(parameters), (), "RUNNING", id=f"t-{number}", start=origin.parent_step)
        return self.trials[number]

    def end(self, number: int) -> None:
        found = self.trials[number]
        self.trials[number] = Trial(number, found.parameters, (), "SUCCEEDED", id=found.id, start=found.start)


class Population:
    def __init__(self, registry: Registry | None = None, checkpoint_timeout_seconds: float = 10.0) -> None:
        self.registry = registry or Registry()
        self.attached: list[int] = []
        self.scheduler = PopulationScheduler(
            PLAN, self.registry, self.attached.append, checkpoint_timeout_seconds=checkpoint_timeout_seconds
        )

    def begin(self) -> None:
        for number in range(4):
            self.scheduler.on_trial_add(None, ray_trial(number))

    def report(self, number: int, *points: tuple[int, float]) -> None:
        for step, value in points:
            found = self.scheduler.on_trial_result(None, ray_trial(number), {"step": step, "value": value})
            assert found == "CONTINUE"

    def end(self, number: int) -> None:
        self.registry.end(number)
        self.scheduler.on_trial_complete(None, ray_trial(number), {})


def ray_trial(number: int) -> Any:
    return SimpleNamespace(trial_id=f"ray-{number}", config={"number": number})


def looked_at(checkpoint_timeout_seconds: float = 10.0) -> Population:
    """Ray saves the best member's checkpoint when it looks at it beside others: at step 40."""
    population = Population(checkpoint_timeout_seconds=checkpoint_timeout_seconds)
    population.begin()
    for number, loss in enumerate((0.1, 0.2, 0.3)):
        population.report(number, (10, 9.0), (20, loss))
    population.report(0, (40, 0.1))
    return population


def test_the_worst_member_goes_on_from_the_best_ones_checkpoint() -> None:
    population = looked_at()
    assert population.attached == []
    population.report(3, (10, 0.01), (20, 0.9))
    assert population.attached == [7]
    assert population.registry.origins == {7: Origin(3, 1, "t-0", 40)}
    found = population.registry.trials[7].parameters
    assert found["learning_rate"] in (pytest.approx(0.0008), pytest.approx(0.0012))
    assert found["per_device_batch_size"] in (4, 16)
    # What is drawn depends on seed, trial and step alone.
    again = looked_at()
    again.report(3, (10, 0.01), (20, 0.9))
    assert again.registry.trials[7].parameters == population.registry.trials[7].parameters


def test_a_good_member_and_one_between_two_looks_train_on() -> None:
    population = looked_at()
    population.report(3, (20, 0.15), (30, 9.0))
    assert population.attached == []


def test_the_replaced_trial_is_heard_no_more_and_the_new_one_is_looked_at_from_where_it_starts() -> None:
    population = looked_at()
    population.report(3, (20, 0.9))
    population.report(3, (60, 9.0))
    assert population.attached == [7]
    population.scheduler.on_trial_complete(None, ray_trial(3), {})
    population.scheduler.on_trial_add(None, ray_trial(7))
    population.report(7, (50, 9.0))
    assert population.attached == [7]
    population.report(7, (60, 9.0))
    assert population.attached == [7, 11]
    assert population.registry.origins[11] == Origin(3, 2, "t-0", 40)


def test_at_its_last_step_nobody_is_replaced_and_who_has_ended_is_copied_no_more() -> None:
    population = looked_at()
    population.report(3, (100, 9.0))
    assert population.attached == []
    population.end(0)
    population.report(1, (40, 0.2))
    population.report(2, (40, 9.0))
    assert population.registry.origins == {6: Origin(2, 1, "t-1", 40)}


def test_a_checkpoint_that_is_late_is_waited_for() -> None:
    population = looked_at()
    population.registry.refusals = [FailedPrecondition("not yet"), FailedPrecondition("not yet")]
    population.report(3, (20, 0.9))
    assert population.attached == [7]


def test_one_that_does_not_come_gives_way_to_that_of_the_look_before_it() -> None:
    population = looked_at(checkpoint_timeout_seconds=0.0)
    population.registry.refusals = [FailedPrecondition("not yet")]
    population.report(3, (20, 0.9))
    assert population.registry.origins == {7: Origin(3, 1, "t-0", 20)}
    # It is looked at again an interval after where it starts.
    population.report(7, (30, 9.0))
    assert population.attached == [7]


@pytest.mark.parametrize("refusal", [InvalidInput([]), FailedPrecondition("it has ended")])
def test_what_the_registry_refuses_does_not_happen(refusal: Exception) -> None:
    population = looked_at()
    population.registry.refusals = [refusal]
    population.registry.end(3)
    population.report(3, (20, 0.9))
    assert population.attached == []
    # Good at last, it is copied as it is.
    population.registry.refusals = []
    population.report(3, (40, 0.01))
    population.report(2, (40, 9.0))
    found = population.registry.trials[6].parameters
    assert population.registry.origins[6] == Origin(2, 1, "t-3", 40)
    assert found["learning_rate"] in (pytest.approx(0.0032), pytest.approx(0.0048))


def test_a_restart_remembers_what_was_reported_and_decides_nothing_again() -> None:
    first = looked_at()
    first.report(3, (20, 0.9))
    first.registry.end(1)
    points = {0: [(20, 0.1), (40, 0.1)], 2: [(20, 0.3), (40, 0.8)], 7: [(50, 0.4)]}
    second = Population(first.registry)
    asked: list[int] = []

    def reported(number: int) -> list[Point]:
        asked.append(number)
        return [Point(*point) for point in points[number]]

    second.scheduler.replay(list(first.registry.trials.values()), reported)
    assert sorted(asked) == [0, 2, 7]
    for number, found in points.items():
        second.scheduler.on_trial_add(None, ray_trial(number))
        second.report(number, *found)
    # The trial that was replaced still ends.
    second.scheduler.on_trial_add(None, ray_trial(3))
    second.report(3, (40, 9.0))
    second.scheduler.on_trial_complete(None, ray_trial(3), {})
    assert second.attached == []
    second.report(7, (60, 9.0))
    assert second.attached == [11]
    assert second.registry.origins[11] == Origin(3, 2, "t-0", 40)


def test_what_leaves_its_domain_comes_back_to_its_nearest_end() -> None:
    parameters = (
        RATE,
        Parameter("weight_decay", "uniform", (), {"low": 0.0, "high": 0.1}),
        Parameter("warmup_steps", "quniform", (), {"low": 0.0, "high": 45.0, "q": 10.0}),
        Parameter("gradient_accumulation_steps", "randint", (), {"low": 1.0, "high": 5.0}),
        Parameter("max_grad_norm", "normal", (), {"mean": 1.0, "stddev": 0.1}),
        BATCH,
    )
    found = clipped_to(
        parameters,
        {
            "learning_rate": 0.012,
            "weight_decay": 0.05,
            "warmup_steps": 48,
            "gradient_accumulation_steps": 6,
            "max_grad_norm": -0.5,
            "per_device_batch_size": 16,
        },
    )
    assert found == {
        "learning_rate": 0.01,
        "weight_decay": 0.05,
        "warmup_steps": 40,
        "gradient_accumulation_steps": 4,
        "max_grad_norm": 0.0,
        "per_device_batch_size": 16,
    }
    assert [type(value) for value in found.values()] == [float, float, int, int, float, int]
    assert mutations_of(PLAN.space)["per_device_batch_size"] == [4, 8, 16]
