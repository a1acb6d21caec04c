"""Population-based training: checks of its settings, numbers of its trials, and the checkpoints that they keep.

A member's first trial, generation 0, has the member's number. Each trial that replaces it is the next generation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from tunix_rt.contract.checkpoints import LAST
from tunix_rt.contract.hyperparameters import DEFAULT_MAX_STEPS, RULES
from tunix_rt.contract.scores import HELD_OUT_LOSS
from tunix_rt.errors import Violations
from tunix_rt.search_space.space import MAX_TRIALS, Space
from tunix_rt.v1 import runs_pb2
from tunix_rt.v1 import sweeps_pb2 as pb

# Fields that all members share: those that decide what a checkpoint's arrays and data position mean, how long members
# train, and when they report and save.
SHARED: Final = (
    "seed",
    "max_seq_length",
    "overlong",
    "lora.rank",
    "lora.alpha",
    "optimizer",
    "early_stopping_patience",
    "max_steps",
    "num_epochs",
    "eval_steps",
    "eval_fraction",
    "logging_steps",
    "save_steps",
    "save_total_limit",
)
# Other members start from a member's checkpoint while it trains on, so it keeps those of this many intervals. If that
# exceeds the maximum of save_total_limit, trials save once an interval.
_KEPT_INTERVALS: Final = 2


@dataclass(frozen=True)
class Origin:
    """The member that a trial replaces, and where it starts: step ``parent_step`` of another trial of the sweep."""

    member: int
    generation: int
    parent_trial_id: str
    parent_step: int


def place_of(number: int, population: int) -> tuple[int, int]:
    """Generation and member of the trial with this number."""
    return divmod(number, population)


def number_of(member: int, generation: int, population: int) -> int:
    """The inverse of `place_of`."""
    return population * generation + member


def reporting_steps(spec: pb.SweepSpec) -> int:
    """Training steps between points of ``scheduling.metric``; 0 if it is not reported."""
    base = spec.base.hyperparameters
    if spec.scheduling.metric == HELD_OUT_LOSS:
        return base.eval_steps
    return base.logging_steps if base.HasField("logging_steps") else int(RULES["logging_steps"].default or 1)


def default_interval(spec: pb.SweepSpec, steps: int) -> int:
    """About a fifth of ``steps``, the length of a trial, as a multiple of `reporting_steps`."""
    every = max(1, reporting_steps(spec))
    return every * max(1, round(steps / 5 / every))


def keep_checkpoints(hyperparameters: runs_pb2.Hyperparameters, interval_steps: int) -> None:
    """Make a trial's run save checkpoints at every interval, and keep enough for other members to start from."""
    given = hyperparameters.save_steps
    most = int(RULES["save_total_limit"].high)
    fits = given > 0 and interval_steps % given == 0 and _KEPT_INTERVALS * interval_steps // given < most
    hyperparameters.save_steps = given if fits else interval_steps
    steps = hyperparameters.max_steps or DEFAULT_MAX_STEPS
    wanted = min(most, steps // hyperparameters.save_steps + 1)
    hyperparameters.save_total_limit = max(hyperparameters.save_total_limit, wanted)


def check_population(spec: pb.SweepSpec, space: Space, steps: int | None, violations: Violations) -> None:
    """``spec`` has its defaults filled in; ``steps`` is the length of trials, None if it is given in epochs."""
    violations.check(spec.algorithm == pb.SEARCH_ALGORITHM_RANDOM, "algorithm", "must be RANDOM for the scheduler PBT")
    violations.check(spec.repeats == 1, "repeats", "must be 1 for the scheduler PBT")
    violations.check(
        spec.num_samples >= 2,
        "num_samples",
        "must be at least 2 for the scheduler PBT: it is the size of the population",
    )
    violations.check(
        spec.max_concurrent_trials >= spec.num_samples,
        "max_concurrent_trials",
        f"must be at least num_samples ({spec.num_samples}) for the scheduler PBT: members train at the same time",
    )
    violations.check(
        not spec.base.initial_checkpoint.run_id,
        "base.initial_checkpoint",
        "must be empty for the scheduler PBT: members start from each other's checkpoints",
    )
    violations.check(
        spec.base.checkpoint_retention in ("", LAST),
        "base.checkpoint_retention",
        f"must be {LAST!r} for the scheduler PBT: members start from each other's checkpoints",
    )
    violations.check(
        spec.base.hyperparameters.early_stopping_patience == 0,
        "base.hyperparameters.early_stopping_patience",
        "must be 0 for the scheduler PBT: members train for the same number of steps",
    )
    for index, parameter in enumerate(space.parameters):
        found = violations.under(f"parameters[{index}]")
        found.check(
            parameter.name not in SHARED, "name", f"{parameter.name} must be the same in all members of a population"
        )
        found.check(
            parameter.when is None, "when", "must be empty for the scheduler PBT: all members have the same parameters"
        )
    tuned = any(parameter.name == "num_epochs" for parameter in space.parameters)
    if steps is not None:
        _check_interval(spec, steps, violations)
    elif not tuned:
        violations.add("base.hyperparameters.num_epochs", "the scheduler PBT requires max_steps")
    scheduling, inside = spec.scheduling, violations.under("scheduling")
    inside.check(0 < scheduling.quantile_fraction <= 0.5, "quantile_fraction", "must be in (0, 0.5]")
    inside.check(0 <= scheduling.resample_probability <= 1, "resample_probability", "must be in [0, 1]")


def _check_interval(spec: pb.SweepSpec, steps: int, violations: Violations) -> None:
    interval = spec.scheduling.interval_steps
    inside = violations.under("scheduling")
    if not inside.check(1 <= interval < steps, "interval_steps", f"must be in [1, {steps}); a trial has {steps} steps"):
        return
    every = reporting_steps(spec)
    field = "eval_steps" if spec.scheduling.metric == HELD_OUT_LOSS else "logging_steps"
    inside.check(
        every < 1 or interval % every == 0,
        "interval_steps",
        f"must be a multiple of base.hyperparameters.{field} ({every}), the steps between two reports",
    )
    most = spec.num_samples * math.ceil(steps / interval)
    inside.check(
        most <= MAX_TRIALS, "interval_steps", f"results in about {most} trials; at most {MAX_TRIALS} are allowed"
    )
