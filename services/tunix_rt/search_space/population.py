"""Sweeps that train a population: what can be wrong with one, how its trials are numbered, which checkpoints they keep.

A member's first trial has the member's number. Trials that take its place are generations of it, from 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from tunix_rt.contract.hyperparameters import DEFAULT_MAX_STEPS, RULES
from tunix_rt.contract.scores import HELD_OUT_LOSS
from tunix_rt.errors import Violations
from tunix_rt.search_space.space import MAX_TRIALS, Space
from tunix_rt.v1 import runs_pb2
from tunix_rt.v1 import sweeps_pb2 as pb

# What members must agree on: what a checkpoint's arrays and its place in the data mean, how long members train, and
# when they report and save.
SHARED: Final = (
    "seed",
    "max_seq_length",
    "overlong",
    "lora.rank",
    "lora.alpha",
    "max_steps",
    "num_epochs",
    "eval_steps",
    "eval_fraction",
    "logging_steps",
    "save_steps",
    "save_total_limit",
)
# A member's checkpoint is taken over while it trains on: a base that cannot keep those of so many intervals saves less
# often.
_KEPT_INTERVALS: Final = 2


@dataclass(frozen=True)
class Origin:
    """Whose place a trial takes, and where it starts: step ``parent_step`` of another trial of the sweep."""

    member: int
    generation: int
    parent_trial_id: str
    parent_step: int


def place_of(number: int, population: int) -> tuple[int, int]:
    """Generation and member of a trial's number."""
    return divmod(number, population)


def number_of(member: int, generation: int, population: int) -> int:
    """The inverse of `place_of`."""
    return population * generation + member


def reporting_steps(spec: pb.SweepSpec) -> int:
    """Training steps between the points of ``scheduling.metric``; 0 where none is reported."""
    base = spec.base.hyperparameters
    if spec.scheduling.metric == HELD_OUT_LOSS:
        return base.eval_steps
    return base.logging_steps if base.HasField("logging_steps") else int(RULES["logging_steps"].default or 1)


def default_interval(spec: pb.SweepSpec, steps: int) -> int:
    """About a fifth of ``steps``, the length of a trial, and a multiple of what lies between two reports."""
    every = max(1, reporting_steps(spec))
    return every * max(1, round(steps / 5 / every))


def keep_checkpoints(hyperparameters: runs_pb2.Hyperparameters, interval_steps: int) -> None:
    """Have a trial's run write a checkpoint at each look at the population, and keep it until others have taken it."""
    given = hyperparameters.save_steps
    most = int(RULES["save_total_limit"].high)
    fits = given > 0 and interval_steps % given == 0 and _KEPT_INTERVALS * interval_steps // given < most
    hyperparameters.save_steps = given if fits else interval_steps
    steps = hyperparameters.max_steps or DEFAULT_MAX_STEPS
    wanted = min(most, steps // hyperparameters.save_steps + 1)
    hyperparameters.save_total_limit = max(hyperparameters.save_total_limit, wanted)


def check_population(spec: pb.SweepSpec, space: Space, steps: int | None, violations: Violations) -> None:
    """``spec`` has its defaults filled in; ``steps`` is a trial's length, None where only its epochs are known."""
    violations.check(
        spec.algorithm == pb.SEARCH_ALGORITHM_RANDOM, "algorithm", "the members of a population are drawn: use RANDOM"
    )
    violations.check(spec.repeats == 1, "repeats", "the members of a population differ: 1 trial of each")
    violations.check(spec.num_samples >= 2, "num_samples", "is the size of the population: at least 2")
    violations.check(
        spec.max_concurrent_trials >= spec.num_samples,
        "max_concurrent_trials",
        f"the members of a population train side by side: at least {spec.num_samples}, as many as there are",
    )
    violations.check(
        not spec.base.initial_checkpoint.run_id,
        "base.initial_checkpoint",
        "the members of a population begin by themselves and go on from each other",
    )
    for index, parameter in enumerate(space.parameters):
        found = violations.under(f"parameters[{index}]")
        found.check(parameter.name not in SHARED, "name", f"{parameter.name} must be the same for all of a population")
        found.check(parameter.when is None, "when", "a population has the same parameters in every member")
    tuned = any(parameter.name == "num_epochs" for parameter in space.parameters)
    if steps is not None:
        _check_interval(spec, steps, violations)
    elif not tuned:
        violations.add("base.hyperparameters.num_epochs", "a population trains by steps: set max_steps")
    scheduling, inside = spec.scheduling, violations.under("scheduling")
    inside.check(0 < scheduling.quantile_fraction <= 0.5, "quantile_fraction", "must be in (0, 0.5]")
    inside.check(0 <= scheduling.resample_probability <= 1, "resample_probability", "must be in [0, 1]")


def _check_interval(spec: pb.SweepSpec, steps: int, violations: Violations) -> None:
    interval = spec.scheduling.interval_steps
    inside = violations.under("scheduling")
    if not inside.check(1 <= interval < steps, "interval_steps", f"must be in [1, {steps}), the steps of a trial"):
        return
    every = reporting_steps(spec)
    field = "eval_steps" if spec.scheduling.metric == HELD_OUT_LOSS else "logging_steps"
    inside.check(
        every < 1 or interval % every == 0,
        "interval_steps",
        f"must be a multiple of {every}, base.hyperparameters.{field}: members are compared by what they report",
    )
    most = spec.num_samples * math.ceil(steps / interval)
    inside.check(most <= MAX_TRIALS, "interval_steps", f"makes about {most} trials, at most {MAX_TRIALS} are allowed")
