"""Rules of hyperparameters, pools and metrics under the names that the registry imports; they live in `contract`."""

from __future__ import annotations

from tunix_rt.contract.hyperparameters import DEFAULT_MAX_STEPS, DURATIONS, FLAT_RULES, LORA_RULES, RULES
from tunix_rt.contract.identifiers import POOL
from tunix_rt.contract.rules import Rule, Scalar
from tunix_rt.contract.scores import HELD_OUT_LOSS, METRIC_KEY

__all__ = [
    "DEFAULT_MAX_STEPS",
    "DURATIONS",
    "FLAT_RULES",
    "HELD_OUT_LOSS",
    "LORA_RULES",
    "METRIC_KEY",
    "POOL",
    "RULES",
    "Rule",
    "Scalar",
]
