"""Ranges and defaults of hyperparameters, as `runs.proto` states them, in one table: for runs, and for search spaces.

Does not know protobuf or what a value does in training.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Rule:
    """What one field may hold. ``kind`` is its Python type; the interval's ends belong to it unless they are open."""

    kind: type
    default: Scalar | None
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    choices: tuple[str, ...] = ()

    def problem(self, value: Any) -> str | None:
        """What is wrong with ``value``; None when nothing is."""
        if self.kind is bool:
            return None if isinstance(value, bool) else "must be true or false"
        if self.kind is str:
            return None if value in self.choices else f"must be one of {', '.join(self.choices)}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        if not math.isfinite(value):
            return "must be finite"
        if self.kind is int and value != int(value):
            return "must be a whole number"
        below = value <= self.low if self.low_open else value < self.low
        above = value >= self.high if self.high_open else value > self.high
        return f"must be in {self.interval}" if below or above else None

    def cast(self, value: Any) -> Scalar:
        """A valid ``value`` in the field's type (JSON numbers are all floats)."""
        result: Scalar = self.kind(value)
        return result

    @property
    def interval(self) -> str:
        """The interval in mathematical notation."""
        low, high = (
            f"{end:g}" if abs(end) < 1e6 or self.kind is float else f"{end:.0f}" for end in (self.low, self.high)
        )
        return f"{'(' if self.low_open else '['}{low}, {high}{')' if self.high_open else ']'}"


_STEPS: Final = 10_000_000

# Fields of Hyperparameters itself. The two of `oneof duration` have no default of their own: max_steps is 100 when
# neither is given.
FLAT_RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "learning_rate": Rule(float, 1e-4, 0, 1, low_open=True),
        "per_device_batch_size": Rule(int, 8, 1, 4096),
        "gradient_accumulation_steps": Rule(int, 1, 1, 1024),
        "weight_decay": Rule(float, 0.0, 0, 1),
        "warmup_steps": Rule(int, 0, 0, 1_000_000),
        "max_steps": Rule(int, None, 1, _STEPS),
        "num_epochs": Rule(float, None, 0, 1000, low_open=True),
        "max_seq_length": Rule(int, 512, 8, 131_072),
        "packing": Rule(bool, False),
        "seed": Rule(int, 0, 0, 2**63 - 1),
        "lr_scheduler_type": Rule(str, "cosine", choices=("constant", "linear", "cosine")),
        "max_grad_norm": Rule(float, 1.0, 0, 1000, low_open=True),
        "adam_beta1": Rule(float, 0.9, 0, 1, high_open=True),
        "adam_beta2": Rule(float, 0.999, 0, 1, high_open=True),
        "adam_epsilon": Rule(float, 1e-8, 0, 1, low_open=True),
        "dtype": Rule(str, "float32", choices=("float32", "bfloat16")),
        "save_steps": Rule(int, 50, 0, _STEPS),
        "logging_steps": Rule(int, 1, 1, _STEPS),
        "eval_steps": Rule(int, 0, 0, _STEPS),
        "eval_fraction": Rule(float, 0.05, 0, 0.5, low_open=True),
        "save_total_limit": Rule(int, 2, 1, 100),
        "gradient_checkpointing": Rule(bool, False),
        "overlong": Rule(str, "drop", choices=("drop", "truncate", "error")),
    }
)
# Those of its message `lora`, by name there. They have no default here: without a rank there is no adapter.
LORA_RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "rank": Rule(int, None, 1, 1024),
        "alpha": Rule(float, None, 0, low_open=True, high_open=True),
        "dropout": Rule(float, None, 0, 1, high_open=True),
    }
)
# All that can be tuned, by the names that parameters have: nested ones as "lora.rank".
RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {**FLAT_RULES, **{f"lora.{name}": rule for name, rule in LORA_RULES.items()}}
)
DEFAULT_MAX_STEPS: Final = 100
DURATIONS: Final = ("max_steps", "num_epochs")

# Names of hardware pools, and keys of metrics.
POOL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
METRIC_KEY: Final = re.compile(r"[A-Za-z0-9_./-]{1,128}")
HELD_OUT_LOSS: Final = "eval_loss"
