"""Every kind of bad sweep, refused by field; paths are from the spec."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import struct_pb2

from tunix_rt.errors import Violations
from tunix_rt.search_space.defaults import with_defaults
from tunix_rt.search_space.messages import read_space, space_of
from tunix_rt.v1 import runs_pb2
from tunix_rt.v1 import sweeps_pb2 as pb

P = pb.Parameter
GRID, TPE = pb.SEARCH_ALGORITHM_GRID, pb.SEARCH_ALGORITHM_TPE
ASHA, MEDIAN, PBT = pb.TRIAL_SCHEDULER_ASHA, pb.TRIAL_SCHEDULER_MEDIAN_STOPPING, pb.TRIAL_SCHEDULER_PBT
BATCH = "per_device_batch_size"


def values(*given: Any) -> list[struct_pb2.Value]:
    listed = struct_pb2.ListValue()
    listed.extend(given)
    return list(listed.values)


def choice(*given: Any) -> pb.Choice:
    return pb.Choice(values=values(*given))


def when(parameter: str, *given: Any) -> pb.Condition:
    return pb.Condition(parameter=parameter, values=values(*given))


def hyper(**fields: Any) -> runs_pb2.RunSpec:
    return runs_pb2.RunSpec(
        hyperparameters=runs_pb2.Hyperparameters(**fields), evaluate_on=[runs_pb2.EvaluateOn(evalset="quiz")]
    )


RATE = P(name="learning_rate", loguniform=pb.LogUniform(low=1e-4, high=1e-2))
KIND = P(name="lr_scheduler_type", choice=choice("constant", "cosine"))
WARMUP = "warmup_steps"


def given(**fields: Any) -> pb.SweepSpec:
    return pb.SweepSpec(**({"parameters": [RATE], "base": hyper(eval_steps=5, max_steps=90)} | fields))


def problems(spec: pb.SweepSpec) -> dict[str, str]:
    violations = Violations()
    read_space(spec, violations)
    return {found.field: found.description for found in violations}


def second(**domain: Any) -> dict[str, Any]:
    """A space in which the other parameter is fine."""
    return {"parameters": [RATE, P(**({"name": "weight_decay"} | domain))]}


def under(condition: pb.Condition, *before: pb.Parameter) -> dict[str, Any]:
    return {"parameters": [*before, P(name=WARMUP, choice=choice(0, 10), when=condition)]}


def asha(**settings: Any) -> dict[str, Any]:
    return {"scheduler": ASHA, "scheduling": pb.SchedulerSettings(**settings)}


def pbt(**settings: Any) -> dict[str, Any]:
    return {"scheduler": PBT, "num_samples": 4, "scheduling": pb.SchedulerSettings(**settings)}


SECOND = "parameters[1]."
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown name": (second(name="learning_rat", choice=choice(1)), SECOND + "name"),
    "a message, not a field": (second(name="lora", choice=choice(1)), SECOND + "name"),
    "unknown nested name": (second(name="lora.colour", choice=choice(1)), SECOND + "name"),
    "named twice": ({"parameters": [RATE, RATE]}, SECOND + "name"),
    "both durations": (
        {"parameters": [P(name="max_steps", choice=choice(1)), P(name="num_epochs", choice=choice(1))]},
        "parameters",
    ),
    "too many": ({"parameters": [RATE] * 33}, "parameters"),
    "no domain": (second(), SECOND + "domain"),
    "empty choice": (second(choice=choice()), SECOND + "choice.values"),
    "value twice": (second(choice=choice(0.1, 0.1)), SECOND + "choice.values[1]"),
    "value out of range": (second(choice=choice(0.1, 7)), SECOND + "choice.values[1]"),
    "text for a number": (second(choice=choice("high")), SECOND + "choice.values[0]"),
    "number for a flag": (second(name="packing", choice=choice(1)), SECOND + "choice.values[0]"),
    "flag for a number": (second(choice=choice(True)), SECOND + "choice.values[0]"),
    "fraction for a whole number": (second(name=BATCH, choice=choice(4, 2.5)), SECOND + "choice.values[1]"),
    "unknown text": (second(name="dtype", choice=choice("int4")), SECOND + "choice.values[0]"),
    "no scalar": (second(choice=choice(None)), SECOND + "choice.values[0]"),
    "no scalar for nothing": (second(name="colour", choice=choice("red", None)), SECOND + "choice.values[1]"),
    "empty interval": (second(uniform=pb.Uniform(low=0.1, high=0.1)), SECOND + "uniform.low"),
    "interval upside down": (second(uniform=pb.Uniform(low=0.2, high=0.1)), SECOND + "uniform.low"),
    "not a number": (second(uniform=pb.Uniform(low=math.nan, high=1)), SECOND + "uniform.low"),
    "infinite": (second(uniform=pb.Uniform(low=0, high=math.inf)), SECOND + "uniform.low"),
    "interval out of range": (second(uniform=pb.Uniform(low=0, high=2)), SECOND + "uniform.high"),
    "log of zero": (second(loguniform=pb.LogUniform(low=0, high=1)), SECOND + "loguniform.low"),
    "log of a negative": (second(loguniform=pb.LogUniform(low=-1, high=1)), SECOND + "loguniform.low"),
    "reals for a whole number": (second(name=BATCH, uniform=pb.Uniform(low=1, high=9)), SECOND + "uniform"),
    "interval for a flag": (second(name="packing", randint=pb.RandInt(low=0, high=2)), SECOND + "randint"),
    "interval for text": (second(name="dtype", randint=pb.RandInt(low=0, high=2)), SECOND + "randint"),
    "step of zero": (second(quniform=pb.QUniform(low=0, high=1, q=0)), SECOND + "quniform.q"),
    "step wider than the interval": (second(quniform=pb.QUniform(low=0, high=0.5, q=0.6)), SECOND + "quniform.q"),
    "fractional step": (second(name=BATCH, quniform=pb.QUniform(low=1, high=9, q=0.5)), SECOND + "quniform.q"),
    "no spread": (second(normal=pb.Normal(mean=0.1, stddev=0)), SECOND + "normal.stddev"),
    "mostly outside": (second(normal=pb.Normal(mean=-0.5, stddev=0.1)), SECOND + "normal.mean"),
    "no mean": (second(normal=pb.Normal(mean=math.nan, stddev=1)), SECOND + "normal.mean"),
    "grid drawn at random": (second(grid=choice(0, 0.1)), SECOND + "grid"),
    "grid learned": (second(grid=choice(0, 0.1)) | {"algorithm": TPE}, SECOND + "grid"),
    "normal learned": (second(normal=pb.Normal(mean=0.5, stddev=0.1)) | {"algorithm": TPE}, SECOND + "normal"),
    "interval in a grid": ({"algorithm": GRID}, "parameters[0].loguniform"),
    "no parameters in a grid": ({"algorithm": GRID, "parameters": []}, "parameters"),
    "grid too large": (
        {"algorithm": GRID, "parameters": [P(name=BATCH, choice=choice(1, 2))], "num_samples": 51, "repeats": 99},
        "parameters",
    ),
    "rank without a whole number": (second(name="lora.rank", choice=choice(2.5)), SECOND + "choice.values[0]"),
    "alpha of zero": (
        {"parameters": [P(name="lora.alpha", choice=choice(0))], "base": hyper(lora=runs_pb2.LoraConfig(rank=8))},
        "parameters[0].choice.values[0]",
    ),
    "alpha without a rank": (second(name="lora.alpha", choice=choice(8)), SECOND + "name"),
    "alpha where the rank may be missing": (
        {
            "parameters": [
                P(name="packing", choice=choice(True, False)),
                P(name="lora.rank", choice=choice(4, 8), when=when("packing", True)),
                P(name="lora.alpha", choice=choice(8)),
            ]
        },
        "parameters[2].name",
    ),
    "condition on nothing": (under(when("", 1)), "parameters[0].when.parameter"),
    "condition on what is not searched": (under(when(BATCH, 4)), "parameters[0].when.parameter"),
    "condition on itself": (under(when(WARMUP, 10)), "parameters[0].when.parameter"),
    "condition on an interval": (under(when("learning_rate", 0.1), RATE), SECOND + "when.parameter"),
    "condition without values": (under(when("lr_scheduler_type"), KIND), SECOND + "when.values"),
    "condition that never holds": (
        under(when("lr_scheduler_type", "cosine", "linear"), KIND),
        SECOND + "when.values[1]",
    ),
    "condition of another type": (under(when("packing", 1), P(name="packing", choice=choice(True))),
                                  SECOND + "when.values[0]"),
    "condition beyond the integers": (
        under(when(BATCH, 4, 8), P(name=BATCH, randint=pb.RandInt(low=1, high=8))),
        SECOND + "when.values[1]",
    ),
    "condition named twice": (
        under(when("lr_scheduler_type", "cosine", "cosine"), KIND),
        SECOND + "when.values[1]",
    ),
    "unknown algorithm": ({"algorithm": 42}, "algorithm"),
    "unknown scheduler": ({"scheduler": 42}, "scheduler"),
    "negative samples": ({"num_samples": -1}, "num_samples"),
    "too many samples": ({"num_samples": 10_001}, "num_samples"),
    "negative repeats": ({"repeats": -1}, "repeats"),
    "too many repeats": ({"repeats": 101}, "repeats"),
    "too many trials": ({"num_samples": 101, "repeats": 100}, "repeats"),
    "repeats of a tuned seed": ({"repeats": 2, "parameters": [RATE, P(name="seed", choice=choice(1))]},
                                SECOND + "name"),
    "last seed too large": ({"repeats": 2, "base": hyper(seed=2**63 - 1)}, "base.hyperparameters.seed"),
    "too many at once": ({"max_concurrent_trials": 1001}, "max_concurrent_trials"),
    "negative seed": ({"seed": -1}, "seed"),
    "bad metric": ({"objective": pb.Objective(metric="a b", mode=pb.OBJECTIVE_MODE_MIN)}, "objective.metric"),
    "metric without mode": ({"objective": pb.Objective(metric="loss")}, "objective.mode"),
    "unknown mode": ({"objective": pb.Objective(mode=9)}, "objective.mode"),  # type: ignore[arg-type]
    "score without an evalset": ({"base": runs_pb2.RunSpec(pool="cpu")}, "base.evaluate_on"),
    "held-out loss of nothing": (
        {"base": hyper(), "objective": pb.Objective(metric="eval_loss", mode=pb.OBJECTIVE_MODE_MIN)},
        "base.hyperparameters.eval_steps",
    ),
    "settings of TPE elsewhere": ({"tpe": pb.TpeSettings(startup_trials=3)}, "tpe"),
    "no start for TPE": ({"algorithm": TPE, "tpe": pb.TpeSettings(startup_trials=-1)}, "tpe.startup_trials"),
    "settings of a scheduler for FIFO": ({"scheduling": pb.SchedulerSettings(grace_steps=3)}, "scheduling"),
    "scheduling by what is known at the end": (asha(metric="primary_score"), "scheduling.metric"),
    "scheduling by a bad key": (asha(metric="my loss"), "scheduling.metric"),
    "scheduling without mode": (asha(metric="accuracy"), "scheduling.mode"),
    "scheduling by nothing held out": ({"base": hyper()} | asha(), "base.hyperparameters.eval_steps"),
    "negative grace": (asha(grace_steps=-1), "scheduling.grace_steps"),
    "grace beyond the end": (asha(grace_steps=91), "scheduling.grace_steps"),
    "no steps to be early among": (
        {"parameters": [P(name="max_steps", choice=choice())]} | asha(),
        "parameters[0].choice.values",
    ),
    "grace by epochs": ({"base": hyper(num_epochs=2, eval_steps=5)} | asha(), "scheduling.grace_steps"),
    "grace by tuned epochs": (second(name="num_epochs", choice=choice(1, 2)) | asha(), "scheduling.grace_steps"),
    "no reduction": (asha(reduction_factor=1), "scheduling.reduction_factor"),
    "reduction to nothing": (asha(reduction_factor=101), "scheduling.reduction_factor"),
    "reduction that is no number": (asha(reduction_factor=math.nan), "scheduling.reduction_factor"),
    "too many brackets": (asha(brackets=11), "scheduling.brackets"),
    "another scheduler's setting": (asha(min_trials=3), "scheduling.min_trials"),
    "population's settings": (asha(resample_probability=0), "scheduling.resample_probability"),
    "brackets of the median": (
        {"scheduler": MEDIAN, "scheduling": pb.SchedulerSettings(brackets=2)},
        "scheduling.brackets",
    ),
    "median of nobody": (
        {"scheduler": MEDIAN, "scheduling": pb.SchedulerSettings(min_trials=-1)},
        "scheduling.min_trials",
    ),
    "population that learns where to look": (pbt() | {"algorithm": TPE}, "algorithm"),
    "repeated population": (pbt() | {"repeats": 2}, "repeats"),
    "population of one": (pbt() | {"num_samples": 1}, "num_samples"),
    "population one after the other": (pbt() | {"max_concurrent_trials": 3}, "max_concurrent_trials"),
    "members of different shapes": (
        pbt()
        | second(name="lora.rank", choice=choice(4, 8))
        | {"base": hyper(eval_steps=5, lora=runs_pb2.LoraConfig(rank=4))},
        SECOND + "name",
    ),
    "members with different data": (pbt() | second(name="seed", choice=choice(1, 2)), SECOND + "name"),
    "members of different lengths": (pbt() | second(name="max_steps", choice=choice(90, 99)), SECOND + "name"),
    "members of different epochs": (pbt() | second(name="num_epochs", choice=choice(1, 2)), SECOND + "name"),
    "members with different parameters": (pbt() | under(when("lr_scheduler_type", "cosine"), KIND), SECOND + "when"),
    "population by epochs": (
        pbt() | {"base": hyper(num_epochs=2, eval_steps=5)},
        "base.hyperparameters.num_epochs",
    ),
    "population never looked at": (pbt(interval_steps=90), "scheduling.interval_steps"),
    "population looked at backwards": (pbt(interval_steps=-5), "scheduling.interval_steps"),
    "looks between two reports": (pbt(interval_steps=12), "scheduling.interval_steps"),
    "looks between two log lines": (
        pbt(metric="loss", interval_steps=12) | {"base": hyper(logging_steps=10)},
        "scheduling.interval_steps",
    ),
    "too many generations": (
        pbt(interval_steps=1) | {"num_samples": 1000, "base": hyper(eval_steps=1, max_steps=11)},
        "scheduling.interval_steps",
    ),
    "more than half replaced": (pbt(quantile_fraction=0.51), "scheduling.quantile_fraction"),
    "quantile that is no number": (pbt(quantile_fraction=math.nan), "scheduling.quantile_fraction"),
    "chance above one": (pbt(resample_probability=1.5), "scheduling.resample_probability"),
    "rungs of a population": (pbt(reduction_factor=3), "scheduling.reduction_factor"),
    "population by nothing held out": (pbt() | {"base": hyper()}, "base.hyperparameters.eval_steps"),
    "bad pool": ({"pools": ["cpu", "GPU"]}, "pools[1]"),
    "empty pool": ({"pools": [""]}, "pools[0]"),
    "pool twice": ({"pools": ["cpu", "cpu"]}, "pools[1]"),
    "nothing of a resource": ({"trial_resources": {"CPU": 0}}, "trial_resources.CPU"),
    "infinite resource": ({"trial_resources": {"CPU": math.inf}}, "trial_resources.CPU"),
    "bad resource": ({"trial_resources": {"a b": 1}}, "trial_resources.a b"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "field"), BAD.values(), ids=BAD.keys())
def test_every_kind_of_bad_spec_is_named_by_its_field(change: dict[str, Any], field: str) -> None:
    expected = {field}
    if change.get("parameters") == [RATE] * 33:
        expected |= {f"parameters[{index}].name" for index in range(1, 33)}
    if "colour" in str(change) and "red" in str(change):
        expected.add(SECOND + "name")
    assert set(problems(given(**change))) == expected


def test_a_circle_of_conditions_is_named_at_each_of_its_members_and_not_beside_it() -> None:
    parameters = [
        P(name=WARMUP, choice=choice(0, 10), when=when("packing", True)),
        P(name="packing", choice=choice(True, False), when=when("lr_scheduler_type", "cosine")),
        P(name="lr_scheduler_type", choice=choice("cosine"), when=when(WARMUP, 10)),
        P(name=BATCH, choice=choice(4), when=when(WARMUP, 0)),
    ]
    found = problems(given(parameters=parameters))
    assert set(found) == {f"parameters[{index}].when.parameter" for index in range(3)}
    assert found["parameters[0].when.parameter"].endswith("warmup_steps → packing → lr_scheduler_type → warmup_steps")


def test_all_conflicts_are_named_at_once() -> None:
    spec = given(
        parameters=[
            P(name="learning_rate", uniform=pb.Uniform(low=0.5, high=0.1)),
            P(name="learning_rat", choice=choice(1)),
            P(name=BATCH, choice=choice(4, 4), when=when("seed", 1)),
            P(name="seed", choice=choice(1, 2)),
            P(name="weight_decay", normal=pb.Normal(mean=0, stddev=0.1)),
        ],
        algorithm=TPE,
        tpe=pb.TpeSettings(startup_trials=-2),
        scheduler=ASHA,
        scheduling=pb.SchedulerSettings(grace_steps=500, min_trials=4),
        objective=pb.Objective(metric="accuracy"),
        repeats=3,
        pools=["TPU"],
        trial_resources={"CPU": -1},
        num_samples=-3,
        seed=-1,
    )
    assert set(problems(spec)) == {
        "parameters[0].uniform.low",
        "parameters[1].name",
        "parameters[2].choice.values[1]",
        "parameters[3].name",
        "parameters[4].normal",
        "tpe.startup_trials",
        "scheduling.grace_steps",
        "scheduling.min_trials",
        "objective.mode",
        "pools[0]",
        "trial_resources.CPU",
        "num_samples",
        "seed",
    }


GOOD: dict[str, dict[str, Any]] = {
    "every domain": {
        "parameters": [
            P(name="learning_rate", loguniform=pb.LogUniform(low=1e-5, high=1)),
            P(name=BATCH, randint=pb.RandInt(low=1, high=4097)),
            P(name="weight_decay", uniform=pb.Uniform(low=0, high=1)),
            P(name=WARMUP, quniform=pb.QUniform(low=0, high=100, q=10)),
            P(name="lr_scheduler_type", choice=choice("constant", "cosine")),
            P(name="packing", choice=choice(True, False)),
            P(name="max_grad_norm", normal=pb.Normal(mean=1, stddev=0.1)),
            P(name="lora.rank", choice=choice(4, 8)),
            P(name="lora.alpha", uniform=pb.Uniform(low=1, high=64)),
            P(name="lora.dropout", uniform=pb.Uniform(low=0, high=0.5)),
        ]
    },
    "condition on an integer": under(when(BATCH, 1, 7), P(name=BATCH, randint=pb.RandInt(low=1, high=8))),
    "alpha beside a rank of the same condition": {
        "parameters": [
            P(name=BATCH, choice=choice(1, 2, 3)),
            P(name="lora.rank", choice=choice(4, 8), when=when(BATCH, 1, 2)),
            P(name="lora.alpha", choice=choice(8), when=when(BATCH, 2)),
            P(name="lora.dropout", choice=choice(0.1), when=when("lora.rank", 4)),
        ]
    },
    "hyperband with a tuned length": asha(brackets=3, grace_steps=200)
    | second(name="max_steps", choice=choice(100, 300)),
    "explicit grace of epochs": {"base": hyper(num_epochs=2, eval_steps=5)} | asha(grace_steps=1000),
    "median by accuracy": {
        "scheduler": MEDIAN,
        "scheduling": pb.SchedulerSettings(metric="accuracy", mode=pb.OBJECTIVE_MODE_MAX),
        "algorithm": TPE,
    },
    "held-out loss at tuned steps": {"base": hyper()} | second(name="eval_steps", choice=choice(5, 10)) | asha(),
    "population": pbt(),
    "population by its training loss": pbt(metric="loss", interval_steps=20, resample_probability=0)
    | {"base": hyper(logging_steps=10)},
    "pools and resources": {"pools": ["cpu", "gpu-h100"], "trial_resources": {"CPU": 0.5, "memory": 1e9}},
    "largest": {"num_samples": 100, "repeats": 100, "max_concurrent_trials": 1000},
}


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
def test_a_good_spec_has_no_problems(fields: dict[str, Any]) -> None:
    assert problems(given(**fields)) == {}


def test_an_empty_space_is_the_one_for_fine_tuning() -> None:
    spec = with_defaults(given(parameters=[]))
    assert list(spec.parameters) == [
        P(name="learning_rate", loguniform=pb.LogUniform(low=1e-5, high=1e-4)),
        P(name=BATCH, choice=choice(4, 8, 16)),
        P(name="weight_decay", uniform=pb.Uniform(low=0, high=0.1)),
        P(name=WARMUP, choice=choice(0, 2, 9)),
    ]
    assert problems(given(parameters=[])) == problems(spec) == {}
    by_epochs = with_defaults(pb.SweepSpec(base=hyper(num_epochs=1)))
    assert by_epochs.parameters[3].choice == choice(0, 10, 50)
    one_step = with_defaults(pb.SweepSpec(base=hyper(max_steps=1)))
    assert one_step.parameters[3].choice == choice(0, 1)


def test_every_default_is_filled_in_once() -> None:
    spec = with_defaults(given(algorithm=TPE, scheduler=ASHA, base=hyper(max_steps=90)))
    assert (spec.num_samples, spec.repeats, spec.max_concurrent_trials) == (1, 1, 1)
    assert (spec.objective.metric, spec.objective.mode) == ("primary_score", pb.OBJECTIVE_MODE_MAX)
    assert (spec.tpe.startup_trials, spec.tpe.multivariate) == (10, True)
    assert spec.scheduling == pb.SchedulerSettings(
        metric="eval_loss", mode=pb.OBJECTIVE_MODE_MIN, grace_steps=10, reduction_factor=3, brackets=1
    )
    assert with_defaults(spec) == spec
    median = with_defaults(given(scheduler=MEDIAN, base=hyper(max_steps=5)))
    assert median.scheduling == pb.SchedulerSettings(
        metric="eval_loss", mode=pb.OBJECTIVE_MODE_MIN, grace_steps=1, min_trials=3
    )
    plain = with_defaults(given())
    assert not plain.HasField("tpe")
    assert not plain.HasField("scheduling")
    one_by_one = with_defaults(given(algorithm=TPE, tpe=pb.TpeSettings(multivariate=False)))
    assert (one_by_one.tpe.startup_trials, one_by_one.tpe.multivariate) == (10, False)
    assert list(with_defaults(pb.SweepSpec(base=runs_pb2.RunSpec(pool="gpu"))).pools) == ["gpu"]


def test_a_stored_spec_is_read_as_it_was_checked() -> None:
    spec = with_defaults(given(**under(when("lr_scheduler_type", "cosine"), KIND), repeats=3, num_samples=4))
    space = space_of(spec)
    assert read_space(spec, Violations()) == space
    assert (space.algorithm, space.num_samples, space.repeats, space.trial_count) == ("RANDOM", 4, 3, 12)
    assert space.parameters[1].when is not None
    assert (space.parameters[1].when.parameter, space.parameters[1].when.values) == ("lr_scheduler_type", ("cosine",))


def test_the_defaults_of_a_population_are_filled_in() -> None:
    spec = with_defaults(given(**pbt()))
    assert spec.max_concurrent_trials == 4
    # A fifth of 90 steps is 18; the nearest multiple of eval_steps is 20.
    assert spec.scheduling == pb.SchedulerSettings(
        metric="eval_loss",
        mode=pb.OBJECTIVE_MODE_MIN,
        grace_steps=10,
        interval_steps=20,
        quantile_fraction=0.25,
        resample_probability=0.25,
    )
    assert with_defaults(spec) == spec
    never = with_defaults(given(**pbt(resample_probability=0, interval_steps=5)))
    assert (never.scheduling.resample_probability, never.scheduling.interval_steps) == (0, 5)
