"""The hyperparameters of a run as the trainer uses them, and what this version of the engine supports of them.

Knows nothing of protobuf or JAX. Names and defaults are those of the contract's ``Hyperparameters``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunix_rt.errors import Violations

SCHEDULES = ("constant", "linear", "cosine")
DTYPES = ("float32", "bfloat16")
OVERLONG = ("drop", "truncate", "error")
DEFAULT_MAX_STEPS = 100


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on the named linear layers; alpha 0 is twice the rank, no name is every linear layer."""

    rank: int
    alpha: float = 0.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mesh:
    """Device mesh; every axis of size 1 is one device.

    ``data`` and ``fsdp`` split the rows of a batch, each device working on ``per_device_batch_size`` at once; ``fsdp``
    and ``tensor`` split the arrays.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    @property
    def size(self) -> int:
        return self.data * self.fsdp * self.tensor


@dataclass(frozen=True)
class Hyperparameters:
    """Every field set; exactly one of ``max_steps`` and ``num_epochs``."""

    learning_rate: float = 1e-4
    per_device_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    weight_decay: float = 0.0
    warmup_steps: int = 0
    max_steps: int | None = DEFAULT_MAX_STEPS
    num_epochs: float | None = None
    max_seq_length: int = 512
    packing: bool = False
    seed: int = 0
    lora: Lora | None = None
    lr_scheduler_type: str = "cosine"
    max_grad_norm: float = 1.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    dtype: str = "float32"
    save_steps: int = 50
    logging_steps: int = 1
    eval_steps: int = 0
    gradient_checkpointing: bool = False
    mesh: Mesh = Mesh()
    overlong: str = "drop"
    eval_fraction: float = 0.05
    save_total_limit: int = 2


def check_hyperparameters(hp: Hyperparameters, found: Violations) -> None:
    """Add every value that is out of range or not supported by this engine to ``found``, by field name."""
    found.check(0 < hp.learning_rate <= 1, "learning_rate", "must be in (0, 1]")
    found.check(1 <= hp.per_device_batch_size <= 4096, "per_device_batch_size", "must be in 1..4096")
    found.check(1 <= hp.gradient_accumulation_steps <= 1024, "gradient_accumulation_steps", "must be in 1..1024")
    found.check(0 <= hp.weight_decay <= 1, "weight_decay", "must be in [0, 1]")
    found.check(0 <= hp.warmup_steps <= 1_000_000, "warmup_steps", "must be in 0..1000000")
    if (hp.max_steps is None) == (hp.num_epochs is None):
        found.add("max_steps", "set exactly one of max_steps and num_epochs")
    if hp.max_steps is not None:
        found.check(1 <= hp.max_steps <= 10_000_000, "max_steps", "must be in 1..10000000")
    if hp.num_epochs is not None:
        found.check(0 < hp.num_epochs <= 1000, "num_epochs", "must be in (0, 1000]")
    found.check(8 <= hp.max_seq_length <= 131_072, "max_seq_length", "must be in 8..131072")
    found.check(0 <= hp.seed < 2**63, "seed", "must be 0 or more")
    _check_choice(hp.lr_scheduler_type, SCHEDULES, "lr_scheduler_type", found)
    _check_choice(hp.dtype, DTYPES, "dtype", found)
    _check_choice(hp.overlong, OVERLONG, "overlong", found)
    found.check(0 < hp.max_grad_norm <= 1000, "max_grad_norm", "must be in (0, 1000]")
    found.check(0 <= hp.adam_beta1 < 1, "adam_beta1", "must be in [0, 1)")
    found.check(0 <= hp.adam_beta2 < 1, "adam_beta2", "must be in [0, 1)")
    found.check(hp.adam_epsilon > 0, "adam_epsilon", "must be positive")
    found.check(hp.save_steps >= 0, "save_steps", "must be 0 or more")
    found.check(hp.logging_steps >= 1, "logging_steps", "must be 1 or more")
    found.check(0 < hp.eval_fraction <= 0.5, "eval_fraction", "must be in (0, 0.5]")
    found.check(1 <= hp.save_total_limit <= 100, "save_total_limit", "must be in 1..100")
    found.check(hp.eval_steps >= 0, "eval_steps", "must be 0 or more")
    if hp.lora is not None:
        _check_lora(hp.lora, found.under("lora"))
    for axis in ("data", "fsdp", "tensor"):
        found.check(getattr(hp.mesh, axis) >= 1, f"mesh.{axis}", "must be 1 or more")


def _check_lora(lora: Lora, found: Violations) -> None:
    found.check(1 <= lora.rank <= 1024, "rank", "must be in 1..1024")
    found.check(math.isfinite(lora.alpha) and lora.alpha >= 0, "alpha", "must be 0 (twice the rank) or more")
    found.check(0 <= lora.dropout < 1, "dropout", "must be in [0, 1)")


def _check_choice(value: str, choices: tuple[str, ...], name: str, found: Violations) -> None:
    found.check(value in choices, name, f"{value!r} is none of {', '.join(choices)}")
