"""A search that is driven again from what the registry stores suggests what an undisturbed one suggests."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunix_rt.contract.rules import Scalar
from tunix_rt.search_space.space import Condition, Parameter, Space
from tunix_rt.tuner.course import Course, Stored, Suggestion
from tunix_rt.tuner.plan import Plan, Scheduling, Tpe
from tunix_rt.tuner.search import Outcome, Parameters
from tunix_rt.tuner.searches import build_course, build_search

PARAMETERS = (
    Parameter("learning_rate", "loguniform", (), {"low": 1e-5, "high": 1e-2}),
    Parameter("lora.rank", "choice", (4, 8), when=Condition("packing", (True,))),
    Parameter("packing", "choice", (True, False)),
    Parameter("warmup_steps", "randint", (), {"low": 0.0, "high": 20.0}),
    Parameter("max_grad_norm", "quniform", (), {"low": 0.5, "high": 2.1, "q": 0.25}),
)
ASHA = Scheduling("ASHA", "min", 10, 3.0, 1, 3, 90)
TPE = Plan(Space(PARAMETERS, "TPE", 14), 5, "max", 3, Tpe(3, True))
GRID = Plan(
    Space(
        (
            Parameter("packing", "grid", (True, False)),
            Parameter("lora.rank", "grid", (4, 8), when=Condition("packing", (True,))),
            Parameter("learning_rate", "choice", (0.1, 0.2)),
        ),
        "GRID",
        2,
    ),
    0,
    "max",
    2,
)
PLANS = {
    "tpe": TPE,
    "tpe, seven trials at once": replace(TPE, max_concurrent=7),
    "tpe, one by one": replace(TPE, tpe=Tpe(3, False)),
    "tpe with repeats": replace(TPE, space=replace(TPE.space, num_samples=6, repeats=2)),
    "tpe with early stopping": replace(TPE, scheduling=ASHA),
    "random": Plan(Space(PARAMETERS, "RANDOM", 14), 5, "max", 3),
    "grid": GRID,
}


def outcome(number: int, parameters: Parameters) -> Outcome:
    """Some fail, some are stopped, the others score by their learning rate."""
    if number % 7 == 3:
        return Outcome("FAILED")
    if number % 7 == 5:
        return Outcome("STOPPED", -float(number), 10)
    return Outcome("SUCCEEDED", -abs(math.log10(float(parameters["learning_rate"])) + 3) - number / 1000)


def go_through(course: Course, at_once: int, order: random.Random, stored: list[Stored]) -> list[Stored]:
    """Carry the course on to its end, with trials that end in any order; returns what the registry has stored then."""
    trials = {trial.suggestion.number: trial for trial in stored}
    while True:
        running = [number for number, trial in trials.items() if trial.outcome is None]
        suggestion = course.next() if len(running) < at_once else None
        if suggestion is not None:
            trials[suggestion.number] = Stored(suggestion, None)
        elif running:
            number = order.choice(running)
            ended = outcome(number, trials[number].suggestion.parameters)
            trials[number] = Stored(trials[number].suggestion, ended)
            course.ended(number, ended)
        else:
            assert course.exhausted
            return list(trials.values())


def suggestions(stored: list[Stored]) -> list[Suggestion]:
    return [trial.suggestion for trial in stored]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_a_search_rebuilt_at_any_moment_suggests_what_the_undisturbed_one_does(plan: Plan) -> None:
    whole = go_through(build_course(plan), plan.max_concurrent, random.Random(0), [])
    assert len(whole) == plan.space.trial_count
    assert [trial.suggestion.number for trial in whole] == list(range(len(whole)))
    for cut in range(len(whole) + 1):
        # All that the undisturbed one knew when it made suggestion ``cut`` has ended; the others may run still.
        known = {number for trial in whole[: cut + 1] for number in trial.suggestion.observed}
        prefix = [
            trial if trial.suggestion.number in known else Stored(trial.suggestion, None) for trial in whole[:cut]
        ]
        course = build_course(plan)
        course.replay(prefix)
        if cut == len(whole):
            assert course.exhausted
            continue
        found = course.next()
        assert found is not None
        expected = whole[cut].suggestion
        assert (found.number, dict(found.parameters)) == (expected.number, dict(expected.parameters))
        if plan.scheduling is None:
            assert found.observed == expected.observed
        else:  # in the order of their ends, which a crash may lose, for the next suggestion only
            assert set(found.observed) == set(expected.observed)


@settings(max_examples=15, deadline=None)
@given(timing=st.integers(0, 2**32), crashes=st.lists(st.integers(0, 13), max_size=4), at_once=st.integers(1, 3))
def test_neither_timing_nor_crashes_change_what_tpe_suggests(timing: int, crashes: list[int], at_once: int) -> None:
    undisturbed = go_through(build_course(TPE), TPE.max_concurrent, random.Random(0), [])
    order = random.Random(timing)
    stored: list[Stored] = []
    for until in [*sorted(crashes), TPE.space.num_samples]:
        course = build_course(TPE)
        course.replay(stored)
        course._configurations = max(until, len(stored))
        stored = go_through(course, at_once, order, stored)
    assert suggestions(stored) == suggestions(undisturbed)


def test_tpe_learns_from_what_it_is_told() -> None:
    plan = replace(TPE, space=replace(TPE.space, num_samples=40))
    trials = go_through(build_course(plan), plan.max_concurrent, random.Random(0), [])
    distances = [abs(math.log10(float(trial.suggestion.parameters["learning_rate"])) + 3) for trial in trials]
    # Drawn at random from three decades around it, the mean distance from the optimum is 0.83.
    assert sum(distances[-15:]) / 15 < 0.5


def test_a_suggestion_knows_exactly_the_trials_that_must_have_ended_before_it() -> None:
    course = build_course(TPE)
    first = [course.next() for _ in range(3)]
    assert [each.observed for each in first if each] == [(), (), ()]
    course.ended(1, Outcome("SUCCEEDED", 0.5))
    course.ended(2, Outcome("SUCCEEDED", 0.5))
    assert course.next() is None
    course.ended(0, Outcome("SUCCEEDED", 0.5))
    assert [(each.number, each.observed) for each in (course.next(), course.next(), course.next()) if each] == [
        (3, (0,)),
        (4, (1,)),
        (5, (2,)),
    ]
    assert course.next() is None


class Recording:
    """Suggests the number of the configuration, and records what it is told."""

    learns = True

    def __init__(self) -> None:
        self.told: list[tuple[int, Outcome]] = []
        self.adopted: list[tuple[int, Parameters]] = []

    def suggest(self, configuration: int) -> dict[str, Scalar]:
        return {"warmup_steps": configuration}

    def adopt(self, configuration: int, parameters: Parameters) -> None:
        self.adopted.append((configuration, parameters))

    def tell(self, configuration: int, outcome: Outcome) -> None:
        self.told.append((configuration, outcome))


def test_a_configuration_is_told_once_with_the_mean_of_its_repeats_that_succeeded() -> None:
    search = Recording()
    course = Course(search, configurations=3, repeats=3, window=None)
    trials = [course.next() for _ in range(6)]
    assert [dict(each.parameters) for each in trials if each] == [{"warmup_steps": 0}] * 3 + [{"warmup_steps": 1}] * 3
    course.ended(0, Outcome("SUCCEEDED", 0.25))
    course.ended(5, Outcome("FAILED"))
    course.ended(1, Outcome("FAILED"))
    course.ended(4, Outcome("FAILED"))
    course.ended(2, Outcome("SUCCEEDED", 0.75))
    course.ended(3, Outcome("FAILED"))
    suggestion = course.next()
    assert suggestion is not None
    assert (suggestion.number, suggestion.observed) == (6, (0, 5, 1, 4, 2, 3))
    assert search.told == [(0, Outcome("SUCCEEDED", 0.5)), (1, Outcome("FAILED"))]
    following = course.next()
    assert following is not None
    assert (following.number, following.observed) == (7, ())


def test_repeats_that_a_crash_left_out_are_made_up_for_with_the_same_parameters() -> None:
    course = Course(Recording(), configurations=2, repeats=3)
    course.replay([Stored(Suggestion(0, {"warmup_steps": 0}), None), Stored(Suggestion(1, {"warmup_steps": 0}), None)])
    assert course.next() == Suggestion(2, {"warmup_steps": 0})


def test_what_is_stored_stands_where_the_search_would_suggest_something_else() -> None:
    search = Recording()
    course = Course(search, configurations=2)
    course.replay([Stored(Suggestion(0, {"warmup_steps": 17}), Outcome("SUCCEEDED", 0.5))])
    assert search.adopted == [(0, {"warmup_steps": 17})]
    course.next()
    assert search.told == [(0, Outcome("SUCCEEDED", 0.5))]


def test_tpe_learns_from_stored_points_that_it_would_not_suggest() -> None:
    search = build_search(TPE)
    for configuration in range(12):
        search.suggest(configuration)
        # Far from the optimum, which only these points know of.
        point: dict[str, Scalar] = {
            "learning_rate": 10.0 ** (-4.9 + configuration / 100),
            "packing": False,
            "warmup_steps": 3,
            "max_grad_norm": 0.5,
        }
        if configuration % 2:
            point = {**point, "learning_rate": 9e-3, "packing": True, "lora.rank": 8}
        search.adopt(configuration, point)
        search.tell(configuration, Outcome("SUCCEEDED", 0.0 if configuration % 2 else 1.0))
    found = []
    for configuration in range(12, 18):
        found.append(search.suggest(configuration))
        search.tell(configuration, Outcome("FAILED"))
    assert sum(float(each["learning_rate"]) < 1e-3 for each in found) >= 5


def test_a_missing_trial_is_not_passed_over() -> None:
    course = Course(Recording(), configurations=3)
    with pytest.raises(ValueError, match="trial 1 is missing"):
        course.replay([Stored(Suggestion(0, {"warmup_steps": 0}), None), Stored(Suggestion(2, {}), None)])


def test_a_course_that_is_extended_goes_on_as_a_longer_one_would() -> None:
    longer = go_through(build_course(TPE), 3, random.Random(0), [])
    course = build_course(replace(TPE, space=replace(TPE.space, num_samples=5)))
    shorter = go_through(course, 3, random.Random(1), [])
    assert suggestions(shorter) == suggestions(longer)[:5]
    course.extend(TPE.space.configuration_count)
    assert suggestions(go_through(course, 3, random.Random(2), shorter)) == suggestions(longer)
