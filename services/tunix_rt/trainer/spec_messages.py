"""A run's spec in protobuf as the trainer's own values."""

from __future__ import annotations

from typing import Any

from tunix_rt.trainer.hyperparameters import DEFAULT_MAX_STEPS, Hyperparameters, Lora, Mesh
from tunix_rt.v1 import runs_pb2

_SCALARS = (
    "learning_rate",
    "per_device_batch_size",
    "gradient_accumulation_steps",
    "weight_decay",
    "warmup_steps",
    "max_seq_length",
    "packing",
    "seed",
    "lr_scheduler_type",
    "max_grad_norm",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "dtype",
    "save_steps",
    "logging_steps",
    "eval_steps",
    "eval_fraction",
    "save_total_limit",
    "gradient_checkpointing",
    "overlong",
)


def hyperparameters_of(message: runs_pb2.Hyperparameters) -> Hyperparameters:
    """Every field as set in ``message``, else its default."""
    found: dict[str, Any] = {name: getattr(message, name) for name in _SCALARS if _is_set(message, name)}
    duration = message.WhichOneof("duration")
    return Hyperparameters(
        **found,
        max_steps=message.max_steps if duration == "max_steps" else None if duration else DEFAULT_MAX_STEPS,
        num_epochs=message.num_epochs if duration == "num_epochs" else None,
        lora=_lora(message.lora) if message.HasField("lora") else None,
        mesh=Mesh(*(max(1, axis) for axis in (message.mesh.data, message.mesh.fsdp, message.mesh.tensor))),
    )


def _is_set(message: Any, name: str) -> bool:
    return bool(message.HasField(name))


def _lora(message: runs_pb2.LoraConfig) -> Lora:
    return Lora(message.rank, message.alpha, message.dropout, tuple(message.target_modules))
