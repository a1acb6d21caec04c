"""What sweeps are made of: spec, origins of trials, configurations, importance."""

from __future__ import annotations

from typing import Any

from tunix_rt.client.records import Open, Record
from tunix_rt.client.resources.runs import RunSpec
from tunix_rt.contract.enums import SearchAlgorithm, TrialScheduler
from tunix_rt.v1 import sweeps_pb2 as pb
from tunix_rt.v1 import tuning_pb2


class Parameter(Open, of=pb.Parameter):
    """A parameter's name, and the one of uniform, loguniform, … that is not None."""

    @property
    def domain(self) -> tuple[str, Any]:
        """The name of its domain and what it holds; ("", None) without one."""
        name = self.proto.WhichOneof("domain") or ""
        return name, getattr(self, name) if name else None


class SweepSpec(Record, of=pb.SweepSpec):
    """How a sweep searches; of a stored sweep with every default filled in."""

    base: RunSpec
    parameters: tuple[Parameter, ...]
    algorithm: SearchAlgorithm
    scheduler: TrialScheduler
    num_samples: int
    max_concurrent_trials: int
    objective: Open
    seed: int
    max_attempts: int
    tpe: Open
    scheduling: Open
    repeats: int
    pools: tuple[str, ...]
    trial_resources: dict[str, float]
    queue_deadline_seconds: int


class TrialOrigin(Record, of=pb.TrialOrigin):
    """Of a population's trial that continues from another trial's checkpoint."""

    member: int
    generation: int
    parent_trial_id: str
    parent_step: int


class Configuration(Record, of=pb.Configuration):
    """All trials of the same parameters; ``difference`` is to the best configuration's objective."""

    index: int
    parameters: dict[str, Any]
    trial_ids: tuple[str, ...]
    n_succeeded: int
    n_failed: int
    n_stopped: int
    objective: float | None
    ci_low: float | None
    ci_high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    tied_with_best: bool


class ParameterImportance(Record, of=tuning_pb2.ParameterImportance):
    """A parameter's share of what explains the objective."""

    name: str
    importance: float


class Importance(Record, of=tuning_pb2.ComputeImportanceResponse):
    """Parameters, most important first; their shares sum to 1."""

    parameters: tuple[ParameterImportance, ...]
    n_trials: int
