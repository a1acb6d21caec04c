"""Ray's rules behind the registry: what they stop, what they remember, and what they leave alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import FIFOScheduler

from tunix_rt.tuner.plan import Scheduling
from tunix_rt.tuner.schedulers import RegistryScheduler, build_scheduler
from tunix_rt.tuner.trials import Point

# Rungs at 10, 30 and 90 steps; one of three goes on at each.
ASHA = Scheduling("ASHA", "min", 10, 3.0, 1, 3, 90)


class Registry:
    def __init__(self) -> None:
        self.stopped: list[tuple[int, str]] = []

    def stop(self, number: int, message: str) -> None:
        self.stopped.append((number, message))


class Sweep:
    """Trials that report what they are told to, to the scheduler of a plan."""

    def __init__(self, scheduling: Scheduling) -> None:
        self.registry = Registry()
        scheduler = build_scheduler(scheduling, self.registry)
        assert isinstance(scheduler, RegistryScheduler)
        self.scheduler = scheduler
        self.controller = SimpleNamespace(get_live_trials=lambda: {SimpleNamespace(status="PENDING")})

    def begin(self, number: int) -> Any:
        trial = SimpleNamespace(trial_id=f"trial-{number}", config={"number": number}, status="RUNNING")
        trial = _Hashable(trial)
        self.scheduler.on_trial_add(self.controller, trial)
        return trial

    def report(self, trial: Any, points: Iterable[tuple[int, float]]) -> None:
        for step, value in points:
            assert self.scheduler.on_trial_result(self.controller, trial, {"step": step, "value": value}) == "CONTINUE"

    def end(self, trial: Any) -> None:
        self.scheduler.on_trial_complete(self.controller, trial, {"ended": object(), "done": True})

    @property
    def stopped(self) -> list[int]:
        return [number for number, _ in self.registry.stopped]


class _Hashable:
    def __init__(self, trial: SimpleNamespace) -> None:
        self.__dict__.update(trial.__dict__)


def test_asha_stops_a_trial_that_is_worse_than_a_third_of_those_at_its_rung() -> None:
    sweep = Sweep(ASHA)
    good, bad = sweep.begin(0), sweep.begin(1)
    sweep.report(good, [(10, 1.0)])
    sweep.report(bad, [(5, 9.0)])
    assert sweep.stopped == []
    sweep.report(bad, [(10, 2.0)])
    assert sweep.registry.stopped == [(1, "AsyncHyperBandScheduler at step 10: 2")]


def test_a_stopped_trial_is_stopped_once_however_much_it_still_reports() -> None:
    sweep = Sweep(ASHA)
    good, bad = sweep.begin(0), sweep.begin(1)
    sweep.report(good, [(10, 1.0), (30, 0.5)])
    sweep.report(bad, [(10, 2.0), (20, 3.0), (30, 4.0), (90, 5.0)])
    assert sweep.stopped == [1]


def test_a_trial_that_has_come_to_its_last_step_waits_for_its_score() -> None:
    sweep = Sweep(ASHA)
    good, slow = sweep.begin(0), sweep.begin(1)
    sweep.report(good, [(90, 0.1)])
    sweep.end(good)
    sweep.report(slow, [(90, 7.0)])
    assert sweep.stopped == []


def test_a_trial_that_is_found_again_reports_again_from_the_start_and_changes_nothing() -> None:
    sweep = Sweep(ASHA)
    first = sweep.begin(0)
    sweep.report(first, [(10, 2.0)])
    sweep.scheduler.on_trial_error(sweep.controller, first)
    sweep.scheduler.on_trial_add(sweep.controller, first)
    sweep.report(first, [(10, 2.0), (20, 1.5)])
    second = sweep.begin(1)
    sweep.report(second, [(10, 1.9)])
    assert sweep.stopped == []


def test_trials_of_an_earlier_attempt_set_the_bar_for_those_of_this_one() -> None:
    sweep = Sweep(ASHA)
    sweep.scheduler.replay(0, [Point(10, 1.0), Point(30, 0.5)])
    sweep.scheduler.replay(1, [Point(10, 3.0)])
    sweep.scheduler.replay(2, [])
    sweep.report(sweep.begin(3), [(10, 2.0)])
    sweep.report(sweep.begin(4), [(10, 0.9), (30, 0.7)])
    assert sweep.stopped == [3, 4]


def test_a_trial_without_a_point_ends_without_a_trace() -> None:
    sweep = Sweep(ASHA)
    silent = sweep.begin(0)
    sweep.end(silent)
    sweep.report(sweep.begin(1), [(10, 9.0)])
    assert sweep.stopped == []


def test_the_median_rule_stops_what_never_was_as_good_as_the_median_and_pauses_nothing() -> None:
    sweep = Sweep(replace(ASHA, kind="MEDIAN_STOPPING", mode="max", min_trials=3, longest=None))
    for number, value in enumerate((0.2, 0.5, 0.8)):
        trial = sweep.begin(number)
        sweep.report(trial, [(10, value), (20, value)])
        sweep.end(trial)
    assert sweep.stopped == []
    sweep.report(sweep.begin(3), [(10, 0.6)])
    sweep.report(sweep.begin(4), [(10, 0.4)])
    assert sweep.stopped == [4]


def test_the_median_rule_remembers_too() -> None:
    sweep = Sweep(replace(ASHA, kind="MEDIAN_STOPPING", mode="max", min_trials=3))
    for number, value in enumerate((0.2, 0.5, 0.8)):
        sweep.scheduler.replay(number, [Point(10, value)])
    sweep.report(sweep.begin(3), [(10, 0.4)])
    assert sweep.stopped == [3]


def test_without_settings_trials_run_first_in_first_out() -> None:
    assert type(build_scheduler(None, Registry())) is FIFOScheduler
