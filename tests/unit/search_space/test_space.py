from __future__ import annotations

import itertools

from tunix_rt.search_space.space import Condition, Parameter, Space

# The second exists where the first is "cosine" or "linear", the third where the second is 10.
SCHEDULE = Parameter("lr_scheduler_type", "choice", ("constant", "linear", "cosine"))
WARMUP = Parameter("warmup_steps", "grid", (0, 10), when=Condition("lr_scheduler_type", ("linear", "cosine")))
BETA = Parameter("adam_beta2", "choice", (0.95, 0.98, 0.99), when=Condition("warmup_steps", (10,)))
BATCH = Parameter("per_device_batch_size", "choice", (4, 8))
NESTED = Space((SCHEDULE, WARMUP, BETA, BATCH), "GRID", 2, 3)


def test_a_parameter_exists_where_its_condition_holds_all_the_way_up() -> None:
    names = ("lr_scheduler_type", "warmup_steps", "adam_beta2", "per_device_batch_size")
    drawn = {"lr_scheduler_type": "cosine", "warmup_steps": 10, "adam_beta2": 0.95, "per_device_batch_size": 4}
    assert NESTED.existing(drawn) == names
    assert NESTED.existing(drawn | {"warmup_steps": 0}) == (names[0], names[1], names[3])
    assert NESTED.active(drawn | {"warmup_steps": 0}) == {
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0,
        "per_device_batch_size": 4,
    }
    # warmup_steps was drawn as 10, and does not exist: so adam_beta2 does not either.
    assert NESTED.existing(drawn | {"lr_scheduler_type": "constant"}) == (names[0], names[3])


def test_points_of_a_grid_that_differ_only_in_what_does_not_exist_are_one() -> None:
    names = [parameter.name for parameter in NESTED.parameters]
    points = set()
    for values in itertools.product(*(parameter.values for parameter in NESTED.parameters)):
        drawn = dict(zip(names, values, strict=True))
        points.add(tuple((name, drawn[name]) for name in NESTED.existing(drawn)))
    # (constant 1 + linear (0: 1, 10: 3) + cosine (0: 1, 10: 3)) × 2 batch sizes.
    assert NESTED.grid_size == len(points) == (1 + 4 + 4) * 2
    assert (NESTED.configuration_count, NESTED.trial_count) == (36, 108)


def test_a_drawn_space_has_as_many_trials_as_samples_and_repeats() -> None:
    space = Space((SCHEDULE, BATCH), "TPE", 7, 3)
    assert (space.configuration_count, space.trial_count) == (7, 21)
    assert Space((SCHEDULE, BATCH), "RANDOM", 7).trial_count == 7
