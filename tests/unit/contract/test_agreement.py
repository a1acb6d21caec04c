"""Registry and workers give the same verdict on every rule of the table, at its boundaries and outside them.

Each rule has its cases here: ``inside`` holds values on and just inside its ends, ``outside`` those just beyond. A rule
without cases fails `test_every_rule_has_cases`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.contract.generation import GENERATION_RULES
from tunix_rt.contract.hyperparameters import LORA_RULES, MESH_RULES, RULES, Hyperparameters
from tunix_rt.contract.messages import hyperparameters_of
from tunix_rt.errors import InvalidInput, TunixError, Violations
from tunix_rt.inferencer.messages import check_request
from tunix_rt.registry.evaluations.checks import evaluation_spec, resolved_generation
from tunix_rt.registry.runs.checks import resolve_hyperparameters
from tunix_rt.registry.sweeps.checks import overridden
from tunix_rt.trainer.engine.training import Training
from tunix_rt.trainer.job import ArtifactRef, Job
from tunix_rt.v1 import common_pb2, evaluations_pb2, inference_pb2, runs_pb2

TINY = 5e-324
BELOW_1 = math.nextafter(1, 0)
ABOVE_1 = math.nextafter(1, 2)
NOT_FINITE = (math.nan, math.inf, -math.inf)
SHARE = ((0.0, TINY, BELOW_1, 1.0), (-TINY, ABOVE_1, *NOT_FINITE))
RATE = ((TINY, 1e-4, BELOW_1, 1.0), (0.0, -TINY, ABOVE_1, *NOT_FINITE))
BETA = ((0.0, TINY, BELOW_1), (-TINY, 1.0, ABOVE_1, *NOT_FINITE))
STEPS = ((0, 1, 10**7 - 1, 10**7), (-1, 10**7 + 1))
FLAG = ((True, False), ())
AXIS = ((1, 2, 4095, 4096), (-1, 4097))

# Values of each hyperparameter: (accepted, refused).
HYPERPARAMETERS: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {
    "learning_rate": RATE,
    "per_device_batch_size": ((1, 2, 4095, 4096), (0, -1, 4097)),
    "gradient_accumulation_steps": ((1, 2, 1023, 1024), (0, -1, 1025)),
    "weight_decay": SHARE,
    "warmup_steps": ((0, 1, 10**6), (-1, 10**6 + 1)),
    "max_steps": ((1, 2, 10**7), (0, -1, 10**7 + 1)),
    "num_epochs": ((TINY, 1.5, 1000.0), (0.0, -1.0, math.nextafter(1000, 1001), *NOT_FINITE)),
    "max_seq_length": ((8, 9, 131_071, 131_072), (7, 0, -1, 131_073)),
    "packing": FLAG,
    "seed": ((0, 1, 2**63 - 1), (-1,)),
    "lora.rank": ((1, 2, 1023, 1024), (0, -1, 1025)),
    "lora.alpha": ((TINY, 1.0, 1e308), (-TINY, *NOT_FINITE)),
    "lora.dropout": BETA,
    "lora.target_modules": (
        (["all-linear"], ["q_proj", "k_proj"], ["a" * 64], ["q"] * 64),
        ([""], ["a" * 65], ["q"] * 65, ["q proj"], ["all-layers"], ["1q"]),
    ),
    "lr_scheduler_type": (
        ("constant", "linear", "cosine", "cosine_with_min_lr", "warmup_stable_decay"),
        ("step", "Cosine", ""),
    ),
    "max_grad_norm": ((TINY, 1.0, 1000.0), (0.0, -1.0, math.nextafter(1000, 1001), *NOT_FINITE)),
    "adam_beta1": BETA,
    "adam_beta2": BETA,
    "adam_epsilon": RATE,
    "dtype": (("float32", "bfloat16"), ("float16", "")),
    "save_steps": STEPS,
    "logging_steps": ((1, 2, 10**7), (0, -1, 10**7 + 1)),
    "eval_steps": STEPS,
    "gradient_checkpointing": FLAG,
    "mesh.data": AXIS,
    "mesh.fsdp": AXIS,
    "mesh.tensor": AXIS,
    "overlong": (("drop", "truncate", "error"), ("ignore", "")),
    "eval_fraction": ((TINY, 0.25, 0.5), (0.0, -TINY, math.nextafter(0.5, 1), *NOT_FINITE)),
    "save_total_limit": ((1, 2, 99, 100), (0, -1, 101)),
    "warmup_ratio": BETA,
    "min_lr_ratio": ((0.0,), (-TINY, ABOVE_1, *NOT_FINITE)),
    "num_decay_steps": ((0,), (-1, 10**7 + 1)),
    "optimizer": (("adamw", "adamw_8bit", "adafactor", "muon"), ("sgd", "")),
    "early_stopping_patience": ((0,), (-1, 10**7 + 1)),
    "early_stopping_threshold": ((0.0,), (-TINY, *NOT_FINITE)),
    "load_best_model_at_end": ((False,), ()),
    "export_dtype": (("float32", "bfloat16", "float16"), ("int8", "")),
}
# Values of each field of a generation config: (accepted, refused).
INT32, INT64 = 2**31, 2**63
GENERATION: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {
    "max_new_tokens": ((1, 2, 8191, 8192), (0, -1, 8193)),
    "temperature": ((0.0, TINY, 1.0, 1e6), (-TINY, math.nextafter(1e6, 1e7), *NOT_FINITE)),
    "top_k": ((0, 1, INT32 - 1), (-1,)),
    "top_p": ((TINY, BELOW_1, 1.0), (0.0, -TINY, ABOVE_1, *NOT_FINITE)),
    "min_p": BETA,
    "repetition_penalty": ((TINY, 1.0, 10.0), (0.0, -TINY, math.nextafter(10, 11), *NOT_FINITE)),
    "seed": ((-INT64, -1, 0, INT64 - 1), ()),
    "stop": (([], ["a"], ["x" * 200], ["\n"] * 16), ([""], ["x" * 201], ["x"] * 17, ["a\0"])),
    "stop_token_ids": (([], [0], [INT32 - 1], list(range(16))), ([-1], list(range(17)))),
    "system_prompt": (("", "x", "x" * 50_000), ("x" * 50_001, "a\0")),
    "dtype": (("float32",), ("bfloat16", "float16", "")),
    "weight_format": (("", "int8-v1"), ("int8", "INT8-V1", "float32")),
}
WRONG_TYPES: dict[type, Sequence[Any]] = {
    bool: (1, "true", 0.0),
    int: ("8", True, 1.5, math.nan, math.inf),
    float: ("0.1", True),
    str: (1, True, 0.5),
}


def registry_refuses(config: common_pb2.GenerationConfig) -> set[str]:
    """The fields that keep an evaluation, and a run that asks for one, from being created."""
    request = evaluations_pb2.CreateEvaluationRequest(
        request_id="3f0b1c9e-8d0a-4a53-9d5f-6f6f4bb7f0c1", model="m", evalset="e", generation=config
    )
    of_run = Violations()
    resolved_generation(config, of_run)
    try:
        evaluation_spec(request)
    except InvalidInput as error:
        assert [each.field.removeprefix("generation.") for each in error.violations] == [each.field for each in of_run]
    return names_of(InvalidInput(of_run.found))


def inferencer_refuses(config: common_pb2.GenerationConfig) -> set[str]:
    chat = inference_pb2.ChatInput(messages=[inference_pb2.ChatMessage(role="user", content="x")])
    found = check_request(inference_pb2.GenerateRequest(model="m", chat=chat, config=config))
    return {name.removeprefix("config.") for name in names_of(InvalidInput(found.found))}


class Unattended:
    """Nobody asks anything of the training."""

    hand_back_requested = False
    acknowledged_step = 0


def message_with(name: str, value: Any) -> runs_pb2.Hyperparameters:
    message = runs_pb2.Hyperparameters(lora={"rank": 8} if name.startswith("lora.") else None)
    *above, field = name.split(".")
    target: Any = message
    for each in above:
        target = getattr(target, each)
    if isinstance(value, list):
        getattr(target, field).extend(value)
    else:
        setattr(target, field, value)
    return message


def names_of(error: InvalidInput) -> set[str]:
    """The fields without index and without what encloses the hyperparameters."""
    return {each.field.removeprefix("hyperparameters.").split("[")[0] for each in error.violations}


def registry_accepts(name: str, message: runs_pb2.Hyperparameters) -> bool:
    found = Violations()
    resolve_hyperparameters(message, found)
    return name not in names_of(InvalidInput(found.found))


def trainer_accepts(name: str, given: Hyperparameters, directory: Path) -> bool:
    """Whether a training process goes on with the job file; what it lacks here comes after the check."""
    place = str(directory)
    job = Job(
        run_id="run-1",
        attempt=1,
        spec_digest="",
        base_model="preset://tiny",
        dataset_id="ds-1",
        dataset=ArtifactRef("file:///none", "sha256:" + "0" * 64),
        hyperparameters=given,
        artifacts_uri=directory.as_uri(),
        work_dir=place,
        cache_dir=place,
    )
    job.write(directory / "job.json")
    with pytest.raises(TunixError) as caught:
        Training(Job.read(directory / "job.json"), lambda message: None, Unattended()).run()
    return not isinstance(caught.value, InvalidInput) or name not in names_of(caught.value)


def test_every_rule_has_cases() -> None:
    nested = {f"lora.{name}" for name in LORA_RULES} | {f"mesh.{name}" for name in MESH_RULES}
    assert set(HYPERPARAMETERS) == set(RULES) | nested
    assert set(GENERATION) == set(GENERATION_RULES)


@pytest.mark.parametrize("name", GENERATION)
def test_registry_and_inferencer_agree_on_a_generation_config(name: str) -> None:
    for expected, values in zip((set(), {name}), GENERATION[name], strict=True):
        for value in values:
            config = common_pb2.GenerationConfig(**{name: value})
            assert (registry_refuses(config), inferencer_refuses(config)) == (expected, expected), value


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_registry_and_trainer_agree_on_a_hyperparameter(name: str, tmp_path: Path) -> None:
    for expected, values in zip((True, False), HYPERPARAMETERS[name], strict=True):
        for value in values:
            message = message_with(name, value)
            trained = trainer_accepts(name, hyperparameters_of(message), tmp_path)
            assert (registry_accepts(name, message), trained) == (expected, expected), value


@pytest.mark.parametrize("name", RULES)
def test_registry_and_trainer_refuse_a_value_of_another_type(name: str, tmp_path: Path) -> None:
    base = runs_pb2.RunSpec(hyperparameters={"lora": {"rank": 8}})
    given = hyperparameters_of(base.hyperparameters)
    assert given.lora is not None
    for value in WRONG_TYPES[RULES[name].kind]:
        found = Violations()
        overridden(base, {name: value}, found)
        field = name.removeprefix("lora.")
        lora = dataclasses.replace(given.lora, **{field: value} if name.startswith("lora.") else {})
        changed = dataclasses.replace(given, lora=lora, **{} if name.startswith("lora.") else {field: value})
        assert names_of(InvalidInput(found.found)) == {name}, value
        assert not trainer_accepts(name, changed, tmp_path), value
