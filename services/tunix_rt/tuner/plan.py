"""What the tuner needs of a sweep's spec: how configurations are found, and which trials are stopped early."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tunix_rt.search_space.defaults import STOPPING_SCHEDULERS, longest_trial
from tunix_rt.search_space.messages import space_of
from tunix_rt.search_space.space import Space
from tunix_rt.v1 import sweeps_pb2 as pb

Mode = Literal["max", "min"]


@dataclass(frozen=True)
class Tpe:
    """Settings of Optuna's TPE: the number of random configurations at the start, and whether it models parameters
    jointly."""

    startup_trials: int
    multivariate: bool


@dataclass(frozen=True)
class Scheduling:
    """A scheduler that stops trials by what they report while they train. Lengths in training steps."""

    kind: Literal["ASHA", "MEDIAN_STOPPING", "PBT"]
    mode: Mode
    grace_steps: int
    reduction_factor: float
    brackets: int
    min_trials: int
    # Length of the longest trial; None: unknown until it ends.
    longest: int | None
    # PBT only.
    interval_steps: int = 0
    quantile_fraction: float = 0.0
    resample_probability: float = 0.0


@dataclass(frozen=True)
class Plan:
    """``max_concurrent`` is the spec's: it decides which results a suggestion may use. ``scheduling`` None is FIFO."""

    space: Space
    seed: int
    mode: Mode
    max_concurrent: int
    tpe: Tpe | None = None
    scheduling: Scheduling | None = None

    def extended(self, num_samples: int) -> Plan:
        """The same search with another number of configurations (grid: repetitions)."""
        return replace(self, space=replace(self.space, num_samples=num_samples))


def read_plan(spec: pb.SweepSpec) -> Plan:
    """The plan of a stored ``spec``, which the registry has checked and whose defaults it has filled in."""
    space = space_of(spec)
    return Plan(
        space=space,
        seed=spec.seed,
        mode=_mode(spec.objective.mode),
        max_concurrent=max(1, spec.max_concurrent_trials),
        tpe=Tpe(spec.tpe.startup_trials, spec.tpe.multivariate) if space.algorithm == "TPE" else None,
        scheduling=_scheduling(spec, space),
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
