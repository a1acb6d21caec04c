from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import struct_pb2

from tunix_rt.errors import Violations
from tunix_rt.tuner.messages import TUNABLE, read_space
from tunix_rt.tuner.tuning_servicer import TuningServicer
from tunix_rt.v1 import sweeps_pb2 as pb
from tunix_rt.v1 import tuning_pb2


def values(*given: Any) -> pb.Choice:
    listed = struct_pb2.ListValue()
    listed.extend(given)
    return pb.Choice(values=listed.values)


RATE = pb.Parameter(name="learning_rate", loguniform=pb.LogUniform(low=1e-4, high=1e-2))


def problems(*parameters: pb.Parameter, **spec: Any) -> dict[str, str]:
    violations = Violations()
    read_space(pb.SweepSpec(parameters=parameters, **spec), violations)
    return {found.field: found.description for found in violations}


def test_every_scalar_hyperparameter_can_be_tuned() -> None:
    assert TUNABLE["learning_rate"] is float
    assert TUNABLE["per_device_batch_size"] is int
    assert TUNABLE["packing"] is bool
    assert TUNABLE["lr_scheduler_type"] is str
    assert "lora" not in TUNABLE
    assert "mesh" not in TUNABLE


def test_a_good_space_has_no_problems() -> None:
    batch = pb.Parameter(name="per_device_batch_size", choice=values(4, 8))
    kind = pb.Parameter(name="lr_scheduler_type", choice=values("linear", "cosine"))
    packing = pb.Parameter(name="packing", choice=values(True, False))
    assert problems(RATE, batch, kind, packing, num_samples=3, seed=1) == {}


@pytest.mark.parametrize(
    ("parameter", "field"),
    [
        (pb.Parameter(name="learning_rat", uniform=pb.Uniform(low=0, high=1)), "name"),
        (pb.Parameter(name="weight_decay"), "domain"),
        (pb.Parameter(name="weight_decay", uniform=pb.Uniform(low=1, high=0)), "uniform.low"),
        (pb.Parameter(name="weight_decay", uniform=pb.Uniform(low=float("nan"), high=1)), "uniform"),
        (pb.Parameter(name="learning_rate", loguniform=pb.LogUniform(low=0, high=1)), "loguniform.low"),
        (pb.Parameter(name="weight_decay", quniform=pb.QUniform(low=0, high=1, q=0)), "quniform.q"),
        (pb.Parameter(name="weight_decay", normal=pb.Normal(mean=0, stddev=0)), "normal.stddev"),
        (pb.Parameter(name="max_steps", uniform=pb.Uniform(low=1, high=9)), "uniform"),
        (pb.Parameter(name="packing", randint=pb.RandInt(low=0, high=2)), "randint"),
        (pb.Parameter(name="max_steps", choice=values()), "choice.values"),
        (pb.Parameter(name="max_steps", choice=values(10, 10)), "choice.values[1]"),
        (pb.Parameter(name="max_steps", choice=values(10, 2.5)), "choice.values[1]"),
        (pb.Parameter(name="max_steps", choice=values("ten")), "choice.values[0]"),
        (pb.Parameter(name="packing", choice=values(1)), "choice.values[0]"),
        (pb.Parameter(name="max_steps", grid=values(10, 20)), "grid"),
    ],
)
def test_each_bad_parameter_is_named(parameter: pb.Parameter, field: str) -> None:
    assert list(problems(RATE if parameter.name != "learning_rate" else
                         pb.Parameter(name="weight_decay", uniform=pb.Uniform(low=0, high=1)), parameter)) == [
        f"parameters[1].{field}"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"algorithm": pb.SEARCH_ALGORITHM_TPE}, "algorithm"),
        ({"scheduler": pb.TRIAL_SCHEDULER_ASHA}, "scheduler"),
        ({"num_samples": 10_001}, "num_samples"),
        ({"num_samples": -1}, "num_samples"),
        ({"max_concurrent_trials": 1001}, "max_concurrent_trials"),
        ({"seed": -1}, "seed"),
        ({"algorithm": pb.SEARCH_ALGORITHM_GRID}, "parameters[0].loguniform"),
    ],
)
def test_each_bad_setting_is_named(spec: dict[str, Any], field: str) -> None:
    assert list(problems(RATE, **spec)) == [field]


def test_a_parameter_named_twice_and_an_empty_space_are_named() -> None:
    assert list(problems(RATE, RATE)) == ["parameters[1].name"]
    assert list(problems()) == ["parameters"]


def test_a_grid_that_is_too_large_is_named() -> None:
    steps = pb.Parameter(name="max_steps", grid=values(*range(1, 102)))
    warmup = pb.Parameter(name="warmup_steps", grid=values(*range(100)))
    found = problems(steps, warmup, algorithm=pb.SEARCH_ALGORITHM_GRID)
    assert found == {"parameters": "the grid makes 10100 trials, at most 10000"}


async def test_the_service_names_all_problems_at_once_or_counts_the_trials() -> None:
    servicer = TuningServicer(None)
    bad = pb.SweepSpec(
        parameters=[
            pb.Parameter(name="nonsense", uniform=pb.Uniform(low=2, high=1)),
            pb.Parameter(name="weight_decay"),
        ],
        seed=-4,
    )
    answer = await servicer.ValidateSearchSpace(tuning_pb2.ValidateSearchSpaceRequest(spec=bad), None)  # type: ignore[arg-type]
    assert not answer.valid
    assert {problem.field for problem in answer.problems} == {
        "spec.seed",
        "spec.parameters[0].name",
        "spec.parameters[0].uniform.low",
        "spec.parameters[1].domain",
    }
    good = pb.SweepSpec(
        parameters=[pb.Parameter(name="max_steps", grid=values(1, 2, 3))],
        algorithm=pb.SEARCH_ALGORITHM_GRID,
        num_samples=2,
    )
    answer = await servicer.ValidateSearchSpace(tuning_pb2.ValidateSearchSpaceRequest(spec=good), None)  # type: ignore[arg-type]
    assert (answer.valid, answer.trial_count) == (True, 6)


async def test_the_tuner_says_what_it_can_do() -> None:
    answer = await TuningServicer(None).DescribeTuner(tuning_pb2.DescribeTunerRequest(), None)  # type: ignore[arg-type]
    assert list(answer.algorithms) == [pb.SEARCH_ALGORITHM_RANDOM, pb.SEARCH_ALGORITHM_GRID]
    assert answer.ray_version.startswith("2.")
    assert answer.ray_address == "local"
