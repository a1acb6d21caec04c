"""What the tuner needs of a sweep's spec: how configurations are found, and which trials are stopped early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from tunix_rt.search_space.space import Space

Mode = Literal["max", "min"]


@dataclass(frozen=True)
class Tpe:
    """Of Optuna's TPE: random configurations before the estimator is asked, and whether it models them jointly."""

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
    # Of the longest trial; None: nobody can tell before it ends.
    longest: int | None
    # Of a population.
    interval_steps: int = 0
    quantile_fraction: float = 0.0
    resample_probability: float = 0.0


@dataclass(frozen=True)
class Plan:
    """``max_concurrent`` is the spec's: it says which results a suggestion may know. ``scheduling`` None is FIFO."""

    space: Space
    seed: int
    mode: Mode
    max_concurrent: int
    tpe: Tpe | None = None
    scheduling: Scheduling | None = None
    trial_resources: Mapping[str, float] = field(default_factory=dict)

    def extended(self, num_samples: int) -> Plan:
        """The same search with another number of configurations (grid: repetitions)."""
        return replace(self, space=replace(self.space, num_samples=num_samples))

    def document(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "space": self.space.document(),
            "seed": self.seed,
            "mode": self.mode,
            "max_concurrent": self.max_concurrent,
            "tpe": asdict(self.tpe) if self.tpe else None,
            "scheduling": asdict(self.scheduling) if self.scheduling else None,
            "trial_resources": dict(self.trial_resources),
        }

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Plan:
        """The inverse of `document`."""
        return cls(
            **{
                **document,
                "space": Space.of_document(document["space"]),
                "tpe": Tpe(**document["tpe"]) if document["tpe"] else None,
                "scheduling": Scheduling(**document["scheduling"]) if document["scheduling"] else None,
            }
        )
