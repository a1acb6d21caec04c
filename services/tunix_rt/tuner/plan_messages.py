"""Stored sweep specs as plans. The registry has checked them and filled in their defaults."""

from __future__ import annotations

from tunix_rt.search_space.defaults import STOPPING_SCHEDULERS, longest_trial
from tunix_rt.search_space.messages import space_of
from tunix_rt.search_space.space import Space
from tunix_rt.tuner.plan import Mode, Plan, Scheduling, Tpe
from tunix_rt.v1 import sweeps_pb2 as pb


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
        longest=longest_trial(spec, space),
        interval_steps=given.interval_steps,
        quantile_fraction=given.quantile_fraction,
        resample_probability=given.resample_probability,
    )


def _mode(mode: int) -> Mode:
    return "min" if mode == pb.OBJECTIVE_MODE_MIN else "max"
