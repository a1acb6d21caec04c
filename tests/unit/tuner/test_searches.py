from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

from tunix_rt.contract.rules import Scalar
from tunix_rt.search_space.space import Condition, Parameter, Space
from tunix_rt.tuner.plan import Plan, Tpe
from tunix_rt.tuner.search import Outcome, Parameters, merge
from tunix_rt.tuner.searches import VariantSearch, build_search

BOUNDED = (
    Parameter("learning_rate", "loguniform", (), {"low": 1e-4, "high": 1e-2}),
    Parameter("weight_decay", "uniform", (), {"low": 0.0, "high": 0.1}),
    Parameter("warmup_steps", "randint", (), {"low": 2.0, "high": 5.0}),
    Parameter("max_grad_norm", "quniform", (), {"low": 0.5, "high": 2.0, "q": 0.25}),
    Parameter("per_device_batch_size", "choice", (4, 8, 16)),
    Parameter("packing", "choice", (True, False)),
    Parameter("lr_scheduler_type", "choice", ("linear", "cosine")),
)
EVERYTHING = Space((*BOUNDED, Parameter("num_epochs", "normal", (), {"mean": 3.0, "stddev": 0.5})), "RANDOM", 40)
CONDITIONAL = Space(
    (
        # What depends on another may come before it.
        Parameter("lora.dropout", "uniform", (), {"low": 0.0, "high": 0.5}, Condition("lora.rank", (8,))),
        Parameter("lora.rank", "choice", (4, 8), when=Condition("packing", (True,))),
        Parameter("packing", "choice", (True, False)),
    ),
    "RANDOM",
    40,
)


def drawn(space: Space, seed: int) -> list[dict[str, Scalar]]:
    search = VariantSearch(space, seed)
    return [dict(search.suggest(number)) for number in range(space.configuration_count)]


def learned(space: Space) -> list[Parameters]:
    """Suggestions of TPE, which is told that every one failed but the first ten."""
    search = build_search(Plan(replace(space, algorithm="TPE"), 0, "max", 1, Tpe(5, True)))
    found = []
    for configuration in range(space.num_samples):
        found.append(search.suggest(configuration))
        ended = Outcome("SUCCEEDED", configuration / 10) if configuration < 10 else Outcome("FAILED")
        search.tell(configuration, ended)
    return found


def test_the_same_seed_draws_the_same_configurations() -> None:
    assert drawn(EVERYTHING, 3) == drawn(EVERYTHING, 3)
    assert drawn(EVERYTHING, 3) != drawn(EVERYTHING, 4)


def test_every_value_lies_in_its_domain_and_is_plain_python() -> None:
    for found in (drawn(EVERYTHING, 0), learned(Space(BOUNDED, "TPE", 40))):
        assert len(found) == 40
        for trial in found:
            assert 1e-4 <= float(trial["learning_rate"]) < 1e-2
            assert 0.0 <= float(trial["weight_decay"]) < 0.1
            assert trial["warmup_steps"] in (2, 3, 4)
            assert float(trial["max_grad_norm"]) in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
            assert trial["per_device_batch_size"] in (4, 8, 16)
            assert trial["lr_scheduler_type"] in ("linear", "cosine")
            assert {type(value) for value in trial.values()} <= {int, float, str, bool}
        assert {trial["packing"] for trial in found} == {True, False}
        json.dumps([dict(trial) for trial in found])


def test_a_logarithmic_draw_is_even_on_the_logarithmic_scale() -> None:
    # Half of the draws lie below the geometric mean: 20 ± 2.5 standard deviations (3.16).
    assert 12 <= sum(float(trial["learning_rate"]) < 1e-3 for trial in drawn(EVERYTHING, 0)) <= 28


def test_a_grid_is_every_combination_as_often_as_asked() -> None:
    space = Space(
        (Parameter("per_device_batch_size", "grid", (4, 8)), Parameter("learning_rate", "choice", (0.1, 0.2, 0.3))),
        "GRID",
        2,
    )
    found = drawn(space, 0)
    assert space.configuration_count == len(found) == 12
    wanted = sorted([*itertools.product((4, 8), (0.1, 0.2, 0.3))] * 2)
    assert sorted((trial["per_device_batch_size"], trial["learning_rate"]) for trial in found) == wanted


def test_a_parameter_exists_only_where_its_condition_holds() -> None:
    for found in (drawn(CONDITIONAL, 0), learned(replace(CONDITIONAL, num_samples=60))):
        assert {frozenset(trial) for trial in found} == {
            frozenset({"packing"}),
            frozenset({"packing", "lora.rank"}),
            frozenset({"packing", "lora.rank", "lora.dropout"}),
        }
        for trial in found:
            assert ("lora.rank" in trial) == (trial["packing"] is True)
            assert ("lora.dropout" in trial) == (trial.get("lora.rank") == 8)


def test_a_condition_changes_no_draw_of_another_parameter() -> None:
    free = Space(tuple(replace(parameter, when=None) for parameter in CONDITIONAL.parameters), "RANDOM", 40)
    for conditional, unconditional in zip(drawn(CONDITIONAL, 1), drawn(free, 1), strict=True):
        assert conditional.items() <= unconditional.items()


def test_a_grid_lists_points_once_that_differ_only_in_what_does_not_exist() -> None:
    space = Space(
        (
            Parameter("packing", "grid", (True, False)),
            Parameter("lora.rank", "grid", (4, 8), when=Condition("packing", (True,))),
        ),
        "GRID",
        1,
    )
    adapted = [{"packing": True, "lora.rank": rank} for rank in (4, 8)]
    assert sorted(drawn(space, 0), key=str) == [{"packing": False}, *adapted]


def test_repeats_are_merged_by_the_mean_of_those_that_succeeded_else_of_those_stopped() -> None:
    succeeded, stopped, failed = Outcome("SUCCEEDED", 0.25), Outcome("STOPPED", 4.0, 10), Outcome("FAILED")
    assert merge([succeeded, failed, Outcome("SUCCEEDED", 0.75), stopped]) == Outcome("SUCCEEDED", 0.5)
    assert merge([stopped, failed, Outcome("STOPPED", 2.0, 30)]) == Outcome("STOPPED", 3.0, 30)
    assert merge([Outcome("STOPPED"), failed]) == Outcome("STOPPED", None)
    assert merge([failed, failed]) == failed
    assert failed.value is None
    # Exact, whatever the order.
    tenths = [Outcome("SUCCEEDED", 0.1)] * 10
    assert merge(tenths).value == math.fsum([0.1] * 10) / 10


def test_a_normal_domain_gives_only_what_its_field_can_hold() -> None:
    decay = Parameter("weight_decay", "normal", (), {"mean": 0.0, "stddev": 0.1})
    search = VariantSearch(Space((decay,), "RANDOM", 200), 4)
    drawn = [search.suggest(number)["weight_decay"] for number in range(200)]
    assert all(isinstance(value, float) and 0 <= value <= 1 for value in drawn)
    assert len(set(drawn)) == 200
