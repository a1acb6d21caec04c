"""Population-based training with the real Ray Tune: bad members go on from good ones, once whatever crashes."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tunix_rt.v1 import common_pb2, sweeps_pb2

from .conftest import CANCELLED, RUNNING, SUCCEEDED, tenfold
from .test_tune_command import attempt, nothing, until

if TYPE_CHECKING:
    from .conftest import FakeRegistry

MEMBERS = 4


@pytest.fixture
def population(registry: FakeRegistry) -> FakeRegistry:
    """Four members; the greater the learning rate the smaller the loss, at every step."""
    registry.spec.num_samples = registry.spec.max_concurrent_trials = registry.together = MEMBERS
    registry.spec.scheduler = sweeps_pb2.TRIAL_SCHEDULER_PBT
    registry.spec.base.hyperparameters.max_steps = 100
    registry.spec.scheduling.CopyFrom(
        sweeps_pb2.SchedulerSettings(
            metric="eval_loss",
            mode=sweeps_pb2.OBJECTIVE_MODE_MIN,
            grace_steps=10,
            interval_steps=20,
            quantile_fraction=0.25,
            resample_probability=0.25,
        )
    )
    registry.points = lambda parameters: [(step, 1 - tenfold(parameters)) for step in range(10, 101, 10)]
    registry.run_seconds = 10.0
    return registry


def check(registry: FakeRegistry) -> None:
    """Every member was trained to its end once, and whoever replaced one goes on from a better one."""
    assert registry.completion is not None
    assert registry.completion.state == common_pb2.JOB_STATE_SUCCEEDED
    assert len(registry.created) == len(set(registry.created)) == len(registry.trials)
    replacing = {number: trial for number, trial in registry.trials.items() if trial.HasField("origin")}
    assert sorted(set(registry.trials) - set(replacing)) == list(range(MEMBERS))
    assert sorted(registry.stopped) == sorted(number - MEMBERS for number in replacing)
    by_id = {trial.id: trial for trial in registry.trials.values()}
    for number, trial in replacing.items():
        assert (trial.origin.generation, trial.origin.member) == divmod(number, MEMBERS)
        parent, former = by_id[trial.origin.parent_trial_id], registry.trials[number - MEMBERS]
        assert tenfold(parent.parameters) > tenfold(former.parameters)
        assert trial.origin.parent_step in (20, 40, 60, 80)
        assert 0.01 <= trial.parameters["learning_rate"] <= 0.09
    for number, trial in registry.trials.items():
        assert trial.state == (CANCELLED if number in registry.stopped else SUCCEEDED)


def worst_founder(registry: FakeRegistry) -> int:
    return min(range(MEMBERS), key=lambda number: tenfold(registry.trials[number].parameters))


@pytest.mark.slow
async def test_bad_members_go_on_from_good_ones(population: FakeRegistry) -> None:
    await attempt(population, nothing)
    check(population)
    assert worst_founder(population) in population.stopped


@pytest.mark.slow
async def test_a_driver_that_is_killed_creates_no_trial_twice_and_finds_the_newest_of_each_member(
    population: FakeRegistry,
) -> None:
    population.run_seconds = 20.0

    async def kill_driver(session: int) -> None:
        await until(lambda: len(population.trials) > MEMBERS, 120)
        os.kill(session, signal.SIGKILL)

    await attempt(population, kill_driver)
    assert population.completion is not None
    assert population.completion.retryable
    running = [number for number, trial in population.trials.items() if trial.state == RUNNING]
    watched = dict(population.watched)
    await attempt(population, nothing)
    check(population)
    assert worst_founder(population) in population.stopped
    assert all(population.watched[number] > watched.get(number, 0) for number in running)
