"""Malformed requests to create a run: one rule a row, each refused by field, and no row left behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.registry.kernel.idempotency import RequestRow
from tunix_rt.registry.kernel.outbox import OutboxRow
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.v1 import common_pb2, models_pb2, runs_pb2

TIMEOUT = 20


def hyper(**fields: Any) -> Callable[[runs_pb2.CreateRunRequest], None]:
    return lambda request: request.spec.hyperparameters.MergeFrom(runs_pb2.Hyperparameters(**fields))


def spec(**fields: Any) -> Callable[[runs_pb2.CreateRunRequest], None]:
    def change(request: runs_pb2.CreateRunRequest) -> None:
        for name, value in fields.items():
            setattr(request.spec, name, value)

    return change


def top(**fields: Any) -> Callable[[runs_pb2.CreateRunRequest], None]:
    def change(request: runs_pb2.CreateRunRequest) -> None:
        for name, value in fields.items():
            setattr(request, name, value)

    return change


def tags(**given: str) -> Callable[[runs_pb2.CreateRunRequest], None]:
    return lambda request: request.tags.update(given)


def evaluated(evalset: str = "quiz", **fields: Any) -> Callable[[runs_pb2.CreateRunRequest], None]:
    return lambda request: request.spec.evaluate_on.append(runs_pb2.EvaluateOn(evalset=evalset, **fields))


def generated(**fields: Any) -> Callable[[runs_pb2.CreateRunRequest], None]:
    return evaluated(generation=common_pb2.GenerationConfig(**fields))


HYPER = "spec.hyperparameters."
LORA = runs_pb2.LoraConfig
MESH = runs_pb2.Mesh
QUIZ = "spec.evaluate_on[0]."

RULES = [
    (top(request_id="abc"), "request_id"),
    (top(display_name="x" * 201), "display_name"),
    (top(display_name="a\0b"), "display_name"),
    (tags(**{"bad name": "x"}), "tags.bad name"),
    (tags(long="x" * 257), "tags.long"),
    (spec(base_model=""), "spec.base_model"),
    (spec(base_model="tiny"), "spec.base_model"),
    (spec(base_model="ftp://host/model"), "spec.base_model"),
    (spec(base_model="preset://huge"), "spec.base_model"),
    (spec(base_model="model://model-none"), "spec.base_model"),
    (spec(base_model="hf://no-name"), "spec.base_model"),
    (spec(base_model="file://relative/path"), "spec.base_model"),
    (spec(base_model="pkg://not a package"), "spec.base_model"),
    (spec(dataset_id=""), "spec.dataset_id"),
    (spec(dataset_id="ds-none"), "spec.dataset_id"),
    (spec(dataset_id="ds\0"), "spec.dataset_id"),
    (spec(pool="GPU"), "spec.pool"),
    (spec(pool="-cpu"), "spec.pool"),
    (spec(pool="c" * 33), "spec.pool"),
    (spec(pool="cpu.>"), "spec.pool"),
    (spec(model_name="My Model"), "spec.model_name"),
    (spec(gate_policy="none"), "spec.gate_policy"),
    (spec(max_attempts=21), "spec.max_attempts"),
    (spec(max_attempts=-1), "spec.max_attempts"),
    (spec(deadline_seconds=-1), "spec.deadline_seconds"),
    (evaluated(evalset=""), QUIZ + "evalset"),
    (evaluated(evalset="unknown"), QUIZ + "evalset"),
    (evaluated(threshold=1.5), QUIZ + "threshold"),
    (evaluated(threshold=math.nan), QUIZ + "threshold"),
    (generated(max_new_tokens=0), QUIZ + "generation.max_new_tokens"),
    (generated(temperature=-1), QUIZ + "generation.temperature"),
    (generated(top_p=0), QUIZ + "generation.top_p"),
    (generated(stop=["x"] * 17), QUIZ + "generation.stop"),
    (generated(dtype="int4"), QUIZ + "generation.dtype"),
    (generated(dtype="bfloat16"), QUIZ + "generation.dtype"),
    (generated(stop_token_ids=range(17)), QUIZ + "generation.stop_token_ids"),
    (generated(weight_format="int8"), QUIZ + "generation.weight_format"),
    (generated(system_prompt="a\0"), QUIZ + "generation.system_prompt"),
    (hyper(learning_rate=0), HYPER + "learning_rate"),
    (hyper(learning_rate=1.1), HYPER + "learning_rate"),
    (hyper(learning_rate=math.nan), HYPER + "learning_rate"),
    (hyper(per_device_batch_size=0), HYPER + "per_device_batch_size"),
    (hyper(per_device_batch_size=4097), HYPER + "per_device_batch_size"),
    (hyper(gradient_accumulation_steps=0), HYPER + "gradient_accumulation_steps"),
    (hyper(weight_decay=-0.1), HYPER + "weight_decay"),
    (hyper(weight_decay=1.1), HYPER + "weight_decay"),
    (hyper(warmup_steps=-1), HYPER + "warmup_steps"),
    (hyper(max_steps=0), HYPER + "max_steps"),
    (hyper(max_steps=10**7 + 1), HYPER + "max_steps"),
    (hyper(num_epochs=0), HYPER + "num_epochs"),
    (hyper(num_epochs=1001), HYPER + "num_epochs"),
    (hyper(max_seq_length=7), HYPER + "max_seq_length"),
    (hyper(max_seq_length=131_073), HYPER + "max_seq_length"),
    (hyper(seed=-1), HYPER + "seed"),
    (hyper(lr_scheduler_type="step"), HYPER + "lr_scheduler_type"),
    (hyper(max_grad_norm=0), HYPER + "max_grad_norm"),
    (hyper(adam_beta1=1), HYPER + "adam_beta1"),
    (hyper(adam_beta2=-0.1), HYPER + "adam_beta2"),
    (hyper(adam_epsilon=0), HYPER + "adam_epsilon"),
    (hyper(dtype="float16"), HYPER + "dtype"),
    (hyper(save_steps=-1), HYPER + "save_steps"),
    (hyper(logging_steps=0), HYPER + "logging_steps"),
    (hyper(eval_steps=-1), HYPER + "eval_steps"),
    (hyper(overlong="ignore"), HYPER + "overlong"),
    (hyper(lora=LORA(rank=0)), HYPER + "lora.rank"),
    (hyper(lora=LORA(rank=8, alpha=-1)), HYPER + "lora.alpha"),
    (hyper(lora=LORA(rank=8, dropout=1)), HYPER + "lora.dropout"),
    (hyper(lora=LORA(rank=8, target_modules=["q proj"])), HYPER + "lora.target_modules[0]"),
    (hyper(mesh=MESH(data=-1)), HYPER + "mesh.data"),
    (hyper(mesh=MESH(tensor=5000)), HYPER + "mesh.tensor"),
]


@pytest.mark.parametrize(("change", "field"), RULES, ids=[f"{number}-{rule[1]}" for number, rule in enumerate(RULES)])
async def test_a_broken_rule_is_refused_by_field_and_leaves_no_row(
    registry: Any, refusal: Any, change: Callable[[runs_pb2.CreateRunRequest], None], field: str
) -> None:
    request = runs_pb2.CreateRunRequest(request_id=registry.request_id(), spec=registry.spec())
    change(request)
    refused = await refusal(registry.runs.CreateRun(request, timeout=TIMEOUT))
    assert refused.kind is InvalidInput
    assert refused.fields == [field]
    for table in (RunRow, OutboxRow, RequestRow):
        assert await registry.count(table) == 0


async def test_a_gate_policy_needs_an_evaluation_and_a_baseline_to_hold_against(registry: Any, refusal: Any) -> None:
    made = {}
    for name, baseline in (("bare", ""), ("held", "best")):
        request = models_pb2.CreateGatePolicyRequest(request_id=registry.request_id(), name=name, baseline=baseline)
        made[name] = await registry.models.CreateGatePolicy(request, timeout=TIMEOUT)
    quiz = [runs_pb2.EvaluateOn(evalset="quiz")]
    without_evaluation = await refusal(registry.create_run(gate_policy="held"))
    without_baseline = await refusal(registry.create_run(gate_policy="bare", evaluate_on=quiz))
    assert without_evaluation.fields == without_baseline.fields == ["spec.gate_policy"]
    assert "evaluate_on" in without_evaluation.text
    assert "baseline" in without_baseline.text
    run = await registry.create_run(gate_policy="held", evaluate_on=quiz)
    assert run.spec.gate_policy == made["held"].id


async def test_every_broken_rule_is_named_at_once(registry: Any, refusal: Any) -> None:
    request = runs_pb2.CreateRunRequest(request_id=registry.request_id(), display_name="a\0")
    for change in (
        spec(base_model="preset://huge", dataset_id="ds-none", pool="NO", max_attempts=99),
        hyper(learning_rate=2, max_steps=0, lora=LORA(rank=-1)),
        evaluated(evalset="unknown", threshold=7),
    ):
        change(request)
    refused = await refusal(registry.runs.CreateRun(request, timeout=TIMEOUT))
    assert refused.fields == sorted(
        [
            "display_name",
            "spec.base_model",
            "spec.dataset_id",
            "spec.pool",
            "spec.max_attempts",
            "spec.hyperparameters.learning_rate",
            "spec.hyperparameters.max_steps",
            "spec.hyperparameters.lora.rank",
            "spec.evaluate_on[0].evalset",
            "spec.evaluate_on[0].threshold",
        ]
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"learning_rate": 1.0},
        {"num_epochs": 1000.0},
        {"max_steps": 10**7},
        {"weight_decay": 0.0},
        {"adam_beta1": 0.0},
        {"save_steps": 0},
        {"seed": 2**63 - 1},
        {"max_seq_length": 131_072},
    ],
)
async def test_the_ends_of_a_range_belong_to_it(registry: Any, fields: dict[str, Any]) -> None:
    run = await registry.create_run(hyperparameters=runs_pb2.Hyperparameters(**fields))
    for name, value in fields.items():
        assert getattr(run.spec.hyperparameters, name) == value


async def test_lora_defaults_follow_its_rank(registry: Any) -> None:
    run = await registry.create_run(hyperparameters=runs_pb2.Hyperparameters(lora=LORA(rank=8)))
    lora = run.spec.hyperparameters.lora
    assert (lora.alpha, list(lora.target_modules)) == (16.0, ["all-linear"])


async def test_the_stored_spec_has_the_options_of_an_adapter(registry: Any) -> None:
    options = {
        "use_rslora": True,
        "use_dora": True,
        "rank_pattern": ["q_proj=16", "layers.0.mlp.up_proj=4"],
        "alpha_pattern": ["q_proj=8.5"],
        "layers_to_transform": [0, 2],
    }
    run = await registry.create_run(hyperparameters=runs_pb2.Hyperparameters(lora=LORA(rank=8, **options)))
    lora = run.spec.hyperparameters.lora
    assert lora == LORA(rank=8, alpha=16, target_modules=["all-linear"], **options)
