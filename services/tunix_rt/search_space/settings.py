"""Checks of a sweep's settings other than its space: counts, objective, algorithm, scheduler, pools, resources."""

from __future__ import annotations

import math
import re
from typing import Final

from tunix_rt.contract.hyperparameters import RULES
from tunix_rt.contract.identifiers import POOL
from tunix_rt.contract.scores import HELD_OUT_LOSS, METRIC_KEY, PRIMARY_SCORE
from tunix_rt.errors import Violations
from tunix_rt.search_space.defaults import (
    SCHEDULERS,
    STOPPING_SCHEDULERS,
    known_max_steps,
    longest_trial,
)
from tunix_rt.search_space.population import check_population
from tunix_rt.search_space.space import MAX_TRIALS, Space
from tunix_rt.v1 import sweeps_pb2 as pb

_MODES: Final = (pb.OBJECTIVE_MODE_MAX, pb.OBJECTIVE_MODE_MIN)
# Settings of one scheduler only.
_OWN: Final = {
    "reduction_factor": "ASHA",
    "brackets": "ASHA",
    "min_trials": "MEDIAN_STOPPING",
    "interval_steps": "PBT",
    "quantile_fraction": "PBT",
    "resample_probability": "PBT",
}
_RESOURCE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,63}")
_MAX_POOLS: Final = 64
_MAX_RESOURCES: Final = 16
# Ray's resolution.
_SMALLEST_RESOURCE: Final = 0.0001


def check_settings(spec: pb.SweepSpec, space: Space, violations: Violations) -> None:
    """``spec`` has its defaults filled in; paths are from the spec."""
    violations.check(
        1 <= spec.num_samples <= MAX_TRIALS, "num_samples", f"must be in [1, {MAX_TRIALS}]; 0 is the default, 1"
    )
    violations.check(1 <= spec.repeats <= 100, "repeats", "must be in [1, 100]; 0 is the default, 1")
    violations.check(
        1 <= spec.max_concurrent_trials <= 1000, "max_concurrent_trials", "must be in [1, 1000]; 0 is the default, 1"
    )
    violations.check(spec.seed >= 0, "seed", "must not be negative")
    if spec.base.hyperparameters.seed + spec.repeats - 1 > RULES["seed"].high:
        violations.add(
            "base.hyperparameters.seed",
            f"seed + repeats − 1, the seed of the last repeat, must be in {RULES['seed'].interval}",
        )
    _check_objective(spec, violations)
    _check_tpe(spec, violations)
    _check_scheduler(spec, space, violations)
    _check_pools(spec, violations)
    _check_resources(spec, violations)


def _check_objective(spec: pb.SweepSpec, violations: Violations) -> None:
    objective = spec.objective
    if objective.metric == PRIMARY_SCORE:
        violations.check(
            bool(spec.base.evaluate_on) or not spec.HasField("base"),
            "base.evaluate_on",
            "metric primary_score requires an evalset",
        )
    _check_metric(spec, objective.metric, objective.mode, violations.under("objective"))
    if objective.metric == HELD_OUT_LOSS:
        _check_held_out(spec, "objective", violations)


def _check_metric(spec: pb.SweepSpec, metric: str, mode: int, violations: Violations) -> None:
    violations.check(METRIC_KEY.fullmatch(metric) is not None, "metric", f"must match {METRIC_KEY.pattern}")
    violations.check(mode in _MODES, "mode", "is required; expected one of MAX, MIN")


def _check_held_out(spec: pb.SweepSpec, who: str, violations: Violations) -> None:
    """The run reports no eval_loss, and holds nothing out, if eval_steps is 0."""
    tuned = any(parameter.name == "eval_steps" for parameter in spec.parameters)
    violations.check(
        tuned or spec.base.hyperparameters.eval_steps > 0 or not spec.HasField("base"),
        "base.hyperparameters.eval_steps",
        f"{who}.metric {HELD_OUT_LOSS} requires eval_steps > 0",
    )


def _check_tpe(spec: pb.SweepSpec, violations: Violations) -> None:
    if spec.algorithm == pb.SEARCH_ALGORITHM_TPE:
        violations.check(
            1 <= spec.tpe.startup_trials <= MAX_TRIALS,
            "tpe.startup_trials",
            f"must be in [1, {MAX_TRIALS}]; 0 is the default, 10",
        )
    else:
        violations.check(not spec.HasField("tpe"), "tpe", "is only allowed with the algorithm TPE")


def _check_scheduler(spec: pb.SweepSpec, space: Space, violations: Violations) -> None:
    scheduler = SCHEDULERS.get(spec.scheduler)
    if scheduler is None:
        known = spec.scheduler in pb.TrialScheduler.values()
        name = pb.TrialScheduler.Name(spec.scheduler) if known else str(spec.scheduler)
        supported = ", ".join(SCHEDULERS.values())
        violations.add("scheduler", f"unknown value {name}; expected one of {supported}")
        return
    if spec.scheduler not in STOPPING_SCHEDULERS:
        violations.check(
            not spec.HasField("scheduling"),
            "scheduling",
            f"is not allowed with the scheduler {scheduler}",
        )
        return
    scheduling = spec.scheduling
    inside = violations.under("scheduling")
    if inside.check(
        scheduling.metric != PRIMARY_SCORE, "metric", "must be a metric that a run reports while it trains"
    ):
        _check_metric(spec, scheduling.metric, scheduling.mode, inside)
    if scheduling.metric == HELD_OUT_LOSS:
        _check_held_out(spec, "scheduling", violations)
    population = scheduler == "PBT"
    if not population or known_max_steps(spec) is not None:
        _check_grace(spec, space, inside)
    given = {field.name for field, _ in scheduling.ListFields()}
    for name, owner in _OWN.items():
        inside.check(name not in given or owner == scheduler, name, f"is only allowed with the scheduler {owner}")
    if scheduler == "ASHA":
        inside.check(1 < scheduling.reduction_factor <= 100, "reduction_factor", "must be in (1, 100]")
        inside.check(1 <= scheduling.brackets <= 10, "brackets", "must be in [1, 10]; 0 is the default, 1")
    elif population:
        check_population(spec, space, known_max_steps(spec), violations)
    else:
        inside.check(1 <= scheduling.min_trials <= MAX_TRIALS, "min_trials", f"must be in [1, {MAX_TRIALS}]")


def _check_grace(spec: pb.SweepSpec, space: Space, violations: Violations) -> None:
    grace = spec.scheduling.grace_steps
    longest = longest_trial(spec, space)
    if longest is None:
        violations.check(
            grace >= 1, "grace_steps", "must be at least 1; there is no default if num_epochs sets the length of trials"
        )
        return
    violations.check(
        1 <= grace <= longest, "grace_steps", f"must be in [1, {longest}]; a trial has at most {longest} steps"
    )


def _check_pools(spec: pb.SweepSpec, violations: Violations) -> None:
    violations.check(len(spec.pools) <= _MAX_POOLS, "pools", f"at most {_MAX_POOLS} are allowed")
    for index, pool in enumerate(spec.pools):
        violations.check(POOL.fullmatch(pool) is not None, f"pools[{index}]", f"must match {POOL.pattern}")
        violations.check(pool not in spec.pools[:index], f"pools[{index}]", f"duplicate pool {pool!r}")


def _check_resources(spec: pb.SweepSpec, violations: Violations) -> None:
    violations.check(
        len(spec.trial_resources) <= _MAX_RESOURCES, "trial_resources", f"at most {_MAX_RESOURCES} are allowed"
    )
    for name, amount in sorted(spec.trial_resources.items()):
        path = f"trial_resources.{name}"
        violations.check(_RESOURCE.fullmatch(name) is not None, path, f"the name must match {_RESOURCE.pattern}")
        violations.check(
            math.isfinite(amount) and amount >= _SMALLEST_RESOURCE,
            path,
            f"must be finite and at least {_SMALLEST_RESOURCE}",
        )
