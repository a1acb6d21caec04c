"""Stored sweep specs as plans. The registry has checked them and filled in their defaults."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal

from tunix_rt.search_space.defaults import known_max_steps
from tunix_rt.search_space.messages import space_of
from tunix_rt.search_space.space import Space
from tunix_rt.tuner.plan import Mode, Plan, Scheduling, Tpe
from tunix_rt.v1 import sweeps_pb2 as pb

STOPPING_SCHEDULERS: Final = MappingProxyType[int, Literal["ASHA", "MEDIAN_STOPPING"]](
    {pb.TRIAL_SCHEDULER_ASHA: "ASHA", pb.TRIAL_SCHEDULER_MEDIAN_STOPPING: "MEDIAN_STOPPING"}
)
SCHEDULERS: Final = (pb.TRIAL_SCHEDULER_FIFO, *STOPPING_SCHEDULERS)


def read_plan(spec: pb.SweepSpec) -> Plan:
    """The plan of a stored ``spec``."""
    space = space_of(spec)
    return Plan(
        space=space,
        seed=spec.seed,
        mode=_mode(spec.objective.mode),
        max_concurrent=max(1, spec.max_concurrent_trials),
        tpe=Tpe(spec.tpe.startup_trials, spec.tpe.multivariate) if space.algorithm == "TPE" else None,
        scheduling=_scheduling(spec, space),
        trial_resources=dict(spec.trial_resources),
    )


def _scheduling(spec: pb.SweepSpec, space: Space) -> Scheduling | None:
    kind = STOPPING_SCHEDULERS.get(spec.scheduler)
    if kind is None:
        return None
    given = spec.scheduling
    return Scheduling(
        kind=kind,
        mode=_mode(given.mode),
        grace_steps=given.grace_steps,
        reduction_factor=given.reduction_factor,
        brackets=given.brackets,
        min_trials=given.min_trials,
        longest=_longest(spec, space),
    )


def _longest(spec: pb.SweepSpec, space: Space) -> int | None:
    longest = known_max_steps(spec)
    if longest is None:
        return None
    for parameter in space.parameters:
        if parameter.name == "max_steps":
            tuned = [*parameter.values, parameter.arguments.get("high")]
            longest = max(longest, *(int(value) for value in tuned if isinstance(value, int | float)))
    return longest


def _mode(mode: int) -> Mode:
    return "min" if mode == pb.OBJECTIVE_MODE_MIN else "max"
