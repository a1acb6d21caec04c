"""Runs that start from another run's checkpoint: what is refused, and what the worker is handed."""

from __future__ import annotations

from typing import Any

import pytest

from tunix_rt.errors import InvalidInput
from tunix_rt.v1 import common_pb2, runs_pb2

TIMEOUT = 20


async def record(registry: Any, lease: common_pb2.Lease, step: int, removed: tuple[int, ...] = ()) -> None:
    checkpoint = runs_pb2.Checkpoint(
        step=step, uri=registry.uri(f"checkpoints/{step}"), digest=registry.digest_of(str(step)), size_bytes=7
    )
    request = runs_pb2.RecordCheckpointRequest(lease=lease, checkpoint=checkpoint, removed_steps=removed)
    await registry.runs.RecordCheckpoint(request, timeout=TIMEOUT)


async def checkpointed(registry: Any, **fields: Any) -> str:
    """A running run with checkpoints of steps 20 and 30; that of step 10 has been removed."""
    run, lease = await registry.running(**fields)
    await record(registry, lease, 10)
    await record(registry, lease, 20)
    await record(registry, lease, 30, removed=(10,))
    return str(run.id)


def start(run_id: str, step: int) -> runs_pb2.CheckpointRef:
    return runs_pb2.CheckpointRef(run_id=run_id, step=step)


async def test_the_worker_is_handed_the_checkpoint_that_the_run_starts_from(registry: Any) -> None:
    source = await checkpointed(registry)
    run = await registry.create_run(initial_checkpoint=start(source, 20))
    assert run.spec.initial_checkpoint == start(source, 20)
    claim = await registry.claim(run.id)
    found = claim.run.initial_checkpoint
    assert (found.step, found.uri, found.digest) == (20, registry.uri("checkpoints/20"), registry.digest_of("20"))
    assert list(claim.run.checkpoints) == []


async def test_a_run_without_one_is_handed_none_and_has_the_digest_that_it_always_had(registry: Any) -> None:
    source = await checkpointed(registry)
    run, started = await registry.create_run(), await registry.create_run(initial_checkpoint=start(source, 20))
    assert not run.spec.HasField("initial_checkpoint")
    assert not (await registry.claim(run.id)).run.HasField("initial_checkpoint")
    assert run.spec_digest == (await registry.get_run(source)).spec_digest != started.spec_digest


async def test_what_does_not_shape_the_checkpoint_is_the_runs_own(registry: Any) -> None:
    source = await checkpointed(registry, hyperparameters=runs_pb2.Hyperparameters(seed=4, eval_steps=10))
    own = runs_pb2.Hyperparameters(
        seed=4,
        eval_steps=3,
        learning_rate=0.5,
        weight_decay=0.5,
        warmup_steps=9,
        lr_scheduler_type="linear",
        per_device_batch_size=3,
        gradient_accumulation_steps=2,
        packing=True,
        save_steps=0,
        adam_beta1=0.5,
        dtype="bfloat16",
        num_epochs=2,
    )
    run = await registry.create_run(
        initial_checkpoint=start(source, 30), hyperparameters=own, pool="gpu", model_name="x"
    )
    assert run.id


async def test_every_difference_that_matters_is_named_at_once(registry: Any, refusal: Any) -> None:
    hyperparameters = runs_pb2.Hyperparameters(seed=4, lora=runs_pb2.LoraConfig(rank=4, target_modules=["q_proj"]))
    source = await checkpointed(registry, hyperparameters=hyperparameters)
    other = runs_pb2.Hyperparameters(
        max_steps=20,
        max_seq_length=64,
        overlong="truncate",
        chat_template="chatml",
        parse_control_tokens=True,
        eval_steps=5,
        optimizer="muon",
        lora=runs_pb2.LoraConfig(rank=8, target_modules=["v_proj"], dropout=0.5),
    )
    refused = await refusal(
        registry.create_run(
            initial_checkpoint=start(source, 25), hyperparameters=other, base_model="preset://small", dataset_id="no"
        )
    )
    assert refused.kind is InvalidInput
    assert set(refused.fields) == {
        "spec.base_model",
        "spec.dataset_id",
        "spec.initial_checkpoint.step",
        *(
            f"spec.hyperparameters.{name}"
            for name in (
                "max_steps",
                "seed",
                "max_seq_length",
                "overlong",
                "chat_template",
                "parse_control_tokens",
                "eval_steps",
                "eval_fraction",
                "optimizer",
                "lora.rank",
                "lora.alpha",
                "lora.target_modules",
            )
        ),
    }
    assert "it has: 30, 20" in refused.text
    assert f"is 0, but 4 in run {source}" in refused.text


async def test_full_fine_tuning_does_not_start_from_adapters(registry: Any, refusal: Any) -> None:
    lora = runs_pb2.Hyperparameters(lora=runs_pb2.LoraConfig(rank=4))
    source = await checkpointed(registry, hyperparameters=lora)
    refused = await refusal(registry.create_run(initial_checkpoint=start(source, 20)))
    assert refused.fields == ["spec.hyperparameters.lora"]
    same = await registry.create_run(initial_checkpoint=start(source, 20), hyperparameters=lora)
    assert same.spec.hyperparameters.lora.target_modules == ["all-linear"]


@pytest.mark.parametrize(
    ("run_id", "step", "field"),
    [
        ("", 20, "run_id"),
        ("run-nobody", 20, "run_id"),
        ("run\0", 20, "run_id"),
        ("SOURCE", 10, "step"),
        ("SOURCE", 0, "step"),
        ("SOURCE", -1, "step"),
    ],
)
async def test_a_checkpoint_that_is_not_there_is_refused(
    registry: Any, refusal: Any, run_id: str, step: int, field: str
) -> None:
    source = await checkpointed(registry)
    refused = await refusal(registry.create_run(initial_checkpoint=start(run_id.replace("SOURCE", source), step)))
    assert (refused.kind, refused.fields) == (InvalidInput, [f"spec.initial_checkpoint.{field}"])


async def test_a_run_that_would_end_before_it_starts_is_refused(registry: Any, refusal: Any) -> None:
    source = await checkpointed(registry)
    as_long = runs_pb2.Hyperparameters(max_steps=30)
    refused = await refusal(registry.create_run(initial_checkpoint=start(source, 30), hyperparameters=as_long))
    assert refused.fields == ["spec.hyperparameters.max_steps"]
    as_long.max_steps = 31
    assert (await registry.create_run(initial_checkpoint=start(source, 30), hyperparameters=as_long)).id
