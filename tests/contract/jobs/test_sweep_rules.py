"""Malformed requests to create a sweep: one rule a row, each refused by field, and no row left behind."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.registry.kernel.idempotency import RequestRow
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.sweeps.tables import SweepRow
from tunix_rt.v1 import runs_pb2, sweeps_pb2

TIMEOUT = 20
PARAMETER = sweeps_pb2.Parameter
INF = math.inf


def choice(*values: Any) -> sweeps_pb2.Choice:
    made = sweeps_pb2.Choice()
    for value in values:
        item = made.values.add()
        if value is None:
            item.null_value = 0  # type: ignore[assignment]
        elif isinstance(value, bool):
            item.bool_value = value
        elif isinstance(value, str):
            item.string_value = value
        else:
            item.number_value = value
    return made


def one(name: str = "learning_rate", **domain: Any) -> dict[str, Any]:
    return {"parameters": [PARAMETER(name=name, **domain)]}


def uniform(low: float, high: float) -> sweeps_pb2.Uniform:
    return sweeps_pb2.Uniform(low=low, high=high)


def log(low: float, high: float) -> sweeps_pb2.LogUniform:
    return sweeps_pb2.LogUniform(low=low, high=high)


def randint(low: int, high: int) -> sweeps_pb2.RandInt:
    return sweeps_pb2.RandInt(low=low, high=high)


def stepped(low: float, high: float, q: float) -> sweeps_pb2.QUniform:
    return sweeps_pb2.QUniform(low=low, high=high, q=q)


def when(condition: sweeps_pb2.Condition) -> dict[str, Any]:
    packing = PARAMETER(name="packing", choice=choice(True, False))
    return {"parameters": [packing, PARAMETER(name=BATCH, choice=choice(4, 8), when=condition)]}


def scheduled(**settings: Any) -> dict[str, Any]:
    return {"scheduler": ASHA, "scheduling": sweeps_pb2.SchedulerSettings(metric="loss", **settings)}


GRID, TPE = sweeps_pb2.SEARCH_ALGORITHM_GRID, sweeps_pb2.SEARCH_ALGORITHM_TPE
ASHA = sweeps_pb2.TRIAL_SCHEDULER_ASHA
LOSS = sweeps_pb2.SchedulerSettings(metric="loss")
FIRST = "spec.parameters[0]."
BATCH = "per_device_batch_size"

RULES: list[tuple[dict[str, Any], str]] = [
    ({"algorithm": GRID, "parameters": []}, "spec.parameters"),
    (one("colour", choice=choice(1)), FIRST + "name"),
    (one("lora", choice=choice(1)), FIRST + "name"),
    (one("", choice=choice(1)), FIRST + "name"),
    (one(), FIRST + "domain"),
    (one(choice=choice()), FIRST + "choice.values"),
    (one(choice=choice(0.1, 7)), FIRST + "choice.values[1]"),
    (one(choice=choice(0.1, 0.1)), FIRST + "choice.values[1]"),
    (one(choice=choice("fast")), FIRST + "choice.values[0]"),
    (one(choice=choice(None)), FIRST + "choice.values[0]"),
    (one(choice=choice(True)), FIRST + "choice.values[0]"),
    (one(BATCH, choice=choice(2.5)), FIRST + "choice.values[0]"),
    (one("dtype", choice=choice("int4")), FIRST + "choice.values[0]"),
    (one("packing", choice=choice(1)), FIRST + "choice.values[0]"),
    (one(uniform=uniform(0.1, 0.1)), FIRST + "uniform.low"),
    (one(uniform=uniform(0.2, 0.1)), FIRST + "uniform.low"),
    (one(uniform=uniform(0.1, 2)), FIRST + "uniform.high"),
    (one(uniform=uniform(-0.1, 0.5)), FIRST + "uniform.low"),
    (one(uniform=uniform(math.nan, 0.5)), FIRST + "uniform.low"),
    (one(uniform=uniform(0.1, INF)), FIRST + "uniform.low"),
    (one(BATCH, uniform=uniform(1, 8)), FIRST + "uniform"),
    (one("packing", uniform=uniform(0, 1)), FIRST + "uniform"),
    (one("dtype", randint=randint(0, 1)), FIRST + "randint"),
    (one(loguniform=log(0, 0.1)), FIRST + "loguniform.low"),
    (one("max_steps", loguniform=log(1, 100)), FIRST + "loguniform"),
    (one("weight_decay", loguniform=log(0.1, 0.01)), FIRST + "loguniform.low"),
    (one(BATCH, randint=randint(8, 8)), FIRST + "randint.low"),
    (one(BATCH, randint=randint(0, 8)), FIRST + "randint.low"),
    (one(BATCH, randint=randint(1, 5000)), FIRST + "randint.high"),
    (one("weight_decay", quniform=stepped(0, 1, 0)), FIRST + "quniform.q"),
    (one("weight_decay", quniform=stepped(0, 0.5, 0.6)), FIRST + "quniform.q"),
    (one(BATCH, quniform=stepped(1, 9, 0.5)), FIRST + "quniform.q"),
    (one(normal=sweeps_pb2.Normal(mean=0.1, stddev=0)), FIRST + "normal.stddev"),
    (one(normal=sweeps_pb2.Normal(mean=math.nan, stddev=1)), FIRST + "normal.mean"),
    (one(BATCH, normal=sweeps_pb2.Normal(mean=8, stddev=1)), FIRST + "normal"),
    (one(grid=choice(0.1)), FIRST + "grid"),
    ({"algorithm": GRID} | one(uniform=uniform(0.1, 0.2)), FIRST + "uniform"),
    ({"algorithm": GRID} | one(BATCH, randint=randint(1, 4)), FIRST + "randint"),
    ({"algorithm": GRID, "num_samples": 10_000} | one(grid=choice(0.1, 0.2)), "spec.parameters"),
    ({"algorithm": TPE} | one("weight_decay", normal=sweeps_pb2.Normal(mean=0.5, stddev=0.1)), FIRST + "normal"),
    ({"algorithm": TPE} | one(grid=choice(0.1)), FIRST + "grid"),
    ({"tpe": sweeps_pb2.TpeSettings(startup_trials=5)}, "spec.tpe"),
    (one("lora.alpha", choice=choice(8)), FIRST + "name"),
    (one("lora.rank", choice=choice(0)), FIRST + "choice.values[0]"),
    (when(sweeps_pb2.Condition(parameter="packing")), "spec.parameters[1].when.values"),
    (when(sweeps_pb2.Condition(parameter="packing", values=choice(1).values)), "spec.parameters[1].when.values[0]"),
    (when(sweeps_pb2.Condition(parameter="dtype", values=choice(1).values)), "spec.parameters[1].when.parameter"),
    (when(sweeps_pb2.Condition(parameter=BATCH, values=choice(4).values)), "spec.parameters[1].when.parameter"),
    ({"algorithm": 42}, "spec.algorithm"),
    ({"scheduler": ASHA}, "spec.base.hyperparameters.eval_steps"),
    ({"scheduler": 42}, "spec.scheduler"),
    ({"scheduling": LOSS}, "spec.scheduling"),
    ({"scheduler": ASHA, "scheduling": sweeps_pb2.SchedulerSettings(metric="speed")}, "spec.scheduling.mode"),
    (scheduled(grace_steps=101), "spec.scheduling.grace_steps"),
    (scheduled(reduction_factor=1), "spec.scheduling.reduction_factor"),
    (scheduled(brackets=11), "spec.scheduling.brackets"),
    (scheduled(min_trials=2), "spec.scheduling.min_trials"),
    ({"repeats": 101}, "spec.repeats"),
    ({"repeats": 2, "num_samples": 5001}, "spec.repeats"),
    ({"repeats": 2} | one("seed", choice=choice(1)), FIRST + "name"),
    ({"pools": ["GPU"]}, "spec.pools[0]"),
    ({"pools": ["gpu", "gpu"]}, "spec.pools[1]"),
    ({"trial_resources": {"CPU": -1}}, "spec.trial_resources.CPU"),
    ({"num_samples": -1}, "spec.num_samples"),
    ({"num_samples": 10_001}, "spec.num_samples"),
    ({"max_concurrent_trials": -1}, "spec.max_concurrent_trials"),
    ({"max_concurrent_trials": 1001}, "spec.max_concurrent_trials"),
    ({"seed": -1}, "spec.seed"),
    ({"max_attempts": 21}, "spec.max_attempts"),
    ({"objective": sweeps_pb2.Objective(metric="a b", mode=1)}, "spec.objective.metric"),  # type: ignore[arg-type]
    ({"objective": sweeps_pb2.Objective(metric="loss")}, "spec.objective.mode"),
    ({"objective": sweeps_pb2.Objective(mode=9)}, "spec.objective.mode"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("change", "field"), RULES, ids=[f"{number}-{rule[1]}" for number, rule in enumerate(RULES)])
async def test_a_broken_rule_is_refused_by_field_and_leaves_no_row(
    registry: Any, refusal: Any, change: dict[str, Any], field: str
) -> None:
    refused = await refusal(registry.create_sweep(**change))
    assert refused.kind is InvalidInput
    assert refused.fields == [field]
    for table in (SweepRow, OutboxRow, RequestRow):
        assert await registry.count(table) == 0


async def test_what_this_version_cannot_do_says_so(registry: Any, refusal: Any) -> None:
    refused = await refusal(registry.create_sweep(algorithm=99, scheduler=99))
    assert refused.fields == ["spec.algorithm", "spec.scheduler"]
    assert refused.text.count("unknown value 99; expected one of ") == 2


@pytest.mark.parametrize("validate_only", [False, True])
async def test_all_conflicts_are_named_at_once(registry: Any, refusal: Any, validate_only: bool) -> None:
    parameters = [
        PARAMETER(name="learning_rate", uniform=uniform(0.5, 0.1)),
        PARAMETER(name="learning_rate", choice=choice()),
        PARAMETER(name="max_steps", loguniform=log(10, 20)),
        PARAMETER(name="num_epochs", randint=randint(1, 3)),
        PARAMETER(name=BATCH, choice=choice(4), when=sweeps_pb2.Condition(parameter=BATCH, values=choice(4).values)),
    ]
    spec = registry.sweep_spec(
        parameters=parameters,
        base=registry.spec(pool="NO", dataset_id="ds-none"),
        seed=-4,
        algorithm=TPE,
        tpe=sweeps_pb2.TpeSettings(startup_trials=-1),
        pools=["cpu", "cpu"],
        repeats=200,
        **scheduled(brackets=20),
    )
    request = sweeps_pb2.CreateSweepRequest(
        request_id=registry.request_id(), spec=spec, display_name="x" * 300, validate_only=validate_only
    )
    refused = await refusal(registry.sweeps.CreateSweep(request, timeout=TIMEOUT))
    assert refused.fields == sorted(
        [
            "display_name",
            "spec.base.dataset_id",
            "spec.base.evaluate_on",
            "spec.base.pool",
            "spec.parameters",
            "spec.parameters[0].uniform.low",
            "spec.parameters[1].choice.values",
            "spec.parameters[1].name",
            "spec.parameters[2].loguniform",
            "spec.parameters[4].when.parameter",
            "spec.pools[1]",
            "spec.repeats",
            "spec.scheduling.brackets",
            "spec.scheduling.grace_steps",
            "spec.seed",
            "spec.tpe.startup_trials",
        ]
    )
    assert await registry.count(SweepRow) == 0


async def test_every_kind_of_domain_has_a_valid_form(registry: Any) -> None:
    parameters = [
        PARAMETER(name="learning_rate", loguniform=log(1e-5, 1)),
        PARAMETER(name="per_device_batch_size", randint=randint(1, 4097)),
        PARAMETER(name="weight_decay", uniform=uniform(0, 1)),
        PARAMETER(name="warmup_steps", quniform=stepped(0, 100, 10)),
        PARAMETER(name="lr_scheduler_type", choice=choice("constant", "cosine")),
        PARAMETER(name="packing", choice=choice(True, False)),
        PARAMETER(name="max_grad_norm", normal=sweeps_pb2.Normal(mean=1, stddev=0.1)),
    ]
    sweep = await registry.create_sweep(parameters=parameters)
    assert list(sweep.spec.parameters) == parameters
    grid = await registry.create_sweep(
        algorithm=GRID,
        parameters=[
            PARAMETER(name="learning_rate", grid=choice(0.1, 0.2)),
            PARAMETER(name="seed", choice=choice(1, 2)),
        ],
        base=registry.spec(),
        objective=sweeps_pb2.Objective(metric="loss", mode=sweeps_pb2.OBJECTIVE_MODE_MIN),
    )
    assert grid.spec.algorithm == GRID


async def test_a_base_run_is_held_to_the_rules_of_runs(registry: Any, refusal: Any) -> None:
    base = registry.spec(
        hyperparameters=runs_pb2.Hyperparameters(learning_rate=5), evaluate_on=[runs_pb2.EvaluateOn(evalset="quiz")]
    )
    refused = await refusal(registry.create_sweep(base=base))
    assert refused.fields == ["spec.base.hyperparameters.learning_rate"]


async def test_what_a_spec_leaves_out_is_stored_as_its_default(registry: Any) -> None:
    base = registry.spec(hyperparameters=runs_pb2.Hyperparameters(eval_steps=10, max_steps=200), pool="gpu")
    base.evaluate_on.add(evalset="quiz")
    spec = sweeps_pb2.SweepSpec(base=base, algorithm=TPE, scheduler=ASHA, num_samples=4)
    request = sweeps_pb2.CreateSweepRequest(request_id=registry.request_id(), spec=spec)
    stored = (await registry.sweeps.CreateSweep(request, timeout=TIMEOUT)).spec
    names = [parameter.name for parameter in stored.parameters]
    assert names == ["learning_rate", BATCH, "weight_decay", "warmup_steps"]
    assert [value.number_value for value in stored.parameters[3].choice.values] == [0, 6, 20]
    assert (stored.repeats, list(stored.pools)) == (1, ["gpu"])
    assert (stored.tpe.startup_trials, stored.tpe.multivariate) == (10, True)
    assert (stored.scheduling.metric, stored.scheduling.grace_steps) == ("eval_loss", 22)
