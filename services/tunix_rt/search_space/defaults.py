"""Defaults of sweeps, as `sweeps.proto` states them. Invalid values are kept, for the checks to report."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Final, Literal

from tunix_rt.contract.hyperparameters import DEFAULT_MAX_STEPS
from tunix_rt.contract.scores import HELD_OUT_LOSS, PRIMARY_SCORE
from tunix_rt.search_space.population import default_interval
from tunix_rt.search_space.space import Space
from tunix_rt.v1 import runs_pb2
from tunix_rt.v1 import sweeps_pb2 as pb

# Names of the schedulers that use what trials report while they train.
STOPPING_SCHEDULERS: Final = MappingProxyType[int, Literal["ASHA", "MEDIAN_STOPPING", "PBT"]](
    {
        pb.TRIAL_SCHEDULER_ASHA: "ASHA",
        pb.TRIAL_SCHEDULER_MEDIAN_STOPPING: "MEDIAN_STOPPING",
        pb.TRIAL_SCHEDULER_PBT: "PBT",
    }
)
SCHEDULERS: Final = MappingProxyType[int, str]({pb.TRIAL_SCHEDULER_FIFO: "FIFO", **STOPPING_SCHEDULERS})
_BATCH_SIZES: Final = (4, 8, 16)
# If the length of the training in steps is unknown.
_WARMUP_STEPS: Final = (0, 10, 50)


def with_defaults(given: pb.SweepSpec) -> pb.SweepSpec:
    """``given`` with every default filled in that `sweeps.proto` names; ``base`` as it is. Idempotent."""
    spec = pb.SweepSpec()
    spec.CopyFrom(given)
    spec.algorithm = given.algorithm or pb.SEARCH_ALGORITHM_RANDOM
    spec.scheduler = given.scheduler or pb.TRIAL_SCHEDULER_FIFO
    spec.num_samples = given.num_samples or 1
    spec.repeats = given.repeats or 1
    population = spec.scheduler == pb.TRIAL_SCHEDULER_PBT
    spec.max_concurrent_trials = given.max_concurrent_trials or (spec.num_samples if population else 1)
    if not given.parameters and spec.algorithm != pb.SEARCH_ALGORITHM_GRID:
        spec.parameters.extend(default_parameters(given.base.hyperparameters))
    if not given.pools and given.base.pool:
        spec.pools.append(given.base.pool)
    spec.objective.metric = given.objective.metric or PRIMARY_SCORE
    if spec.objective.metric == PRIMARY_SCORE:
        spec.objective.mode = given.objective.mode or pb.OBJECTIVE_MODE_MAX
    if spec.algorithm == pb.SEARCH_ALGORITHM_TPE:
        spec.tpe.startup_trials = given.tpe.startup_trials or 10
        spec.tpe.multivariate = given.tpe.multivariate if given.tpe.HasField("multivariate") else True
    if spec.scheduler in STOPPING_SCHEDULERS:
        _fill_scheduling(spec)
    return spec


def default_parameters(base: runs_pb2.Hyperparameters) -> list[pb.Parameter]:
    """The default space for fine-tuning. Warm-up: none, 3 % and 10 % of the base's max_steps."""
    batch_sizes, warmup_steps = pb.Choice(), pb.Choice()
    for size in _BATCH_SIZES:
        batch_sizes.values.add(number_value=size)
    steps = base.max_steps or DEFAULT_MAX_STEPS
    shares = (0, max(1, steps * 3 // 100), max(1, steps // 10))
    for count in sorted(set(_WARMUP_STEPS if base.WhichOneof("duration") == "num_epochs" else shares)):
        warmup_steps.values.add(number_value=count)
    return [
        pb.Parameter(name="learning_rate", loguniform=pb.LogUniform(low=1e-5, high=1e-4)),
        pb.Parameter(name="per_device_batch_size", choice=batch_sizes),
        pb.Parameter(name="weight_decay", uniform=pb.Uniform(low=0, high=0.1)),
        pb.Parameter(name="warmup_steps", choice=warmup_steps),
    ]


def known_max_steps(spec: pb.SweepSpec) -> int | None:
    """``max_steps`` of the base; None if the length of trials is given in epochs."""
    base = spec.base.hyperparameters
    if base.WhichOneof("duration") == "num_epochs" or any(each.name == "num_epochs" for each in spec.parameters):
        return None
    return base.max_steps or DEFAULT_MAX_STEPS


def longest_trial(spec: pb.SweepSpec, space: Space) -> int | None:
    """The most training steps that a trial of ``space`` can have; None if the length of trials is given in epochs."""
    steps = known_max_steps(spec)
    if steps is None:
        return None
    tuned = [
        value
        for parameter in space.parameters
        if parameter.name == "max_steps"
        for value in (*parameter.values, parameter.arguments.get("high"))
    ]
    return max([steps, *(int(value) for value in tuned if isinstance(value, int | float) and math.isfinite(value))])


def _fill_scheduling(spec: pb.SweepSpec) -> None:
    scheduling = spec.scheduling
    scheduling.metric = scheduling.metric or HELD_OUT_LOSS
    if scheduling.metric.endswith("loss"):
        scheduling.mode = scheduling.mode or pb.OBJECTIVE_MODE_MIN
    steps = known_max_steps(spec)
    if not scheduling.grace_steps and steps is not None:
        scheduling.grace_steps = max(1, steps // 9)
    if spec.scheduler == pb.TRIAL_SCHEDULER_ASHA:
        scheduling.reduction_factor = scheduling.reduction_factor or 3.0
        scheduling.brackets = scheduling.brackets or 1
    elif spec.scheduler == pb.TRIAL_SCHEDULER_PBT:
        if not scheduling.interval_steps and steps is not None:
            scheduling.interval_steps = default_interval(spec, steps)
        scheduling.quantile_fraction = scheduling.quantile_fraction or 0.25
        if not scheduling.HasField("resample_probability"):
            scheduling.resample_probability = 0.25
    else:
        scheduling.min_trials = scheduling.min_trials or 3
