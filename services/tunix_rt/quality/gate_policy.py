"""The requirements of a gate, and its possible verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from tunix_rt.errors import Violations
from tunix_rt.quality.pairing import DIMENSIONS
from tunix_rt.quality.scorers import PRIMARY_METRIC


class GateVerdict(StrEnum):
    """The decision, on a gate or on one slice."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"


class SliceTier(StrEnum):
    """The effect of a slice's FAIL."""

    CRITICAL = "CRITICAL"
    """Fails the gate."""
    ADVISORY = "ADVISORY"
    """Is only reported."""


@dataclass(frozen=True)
class SliceRule:
    """The requirement for items whose ``dimension`` (section, category or difficulty) is ``value``.

    An empty value means every value without a rule of its own. ``min_effect`` None: the policy's.
    """

    dimension: str
    value: str
    tier: SliceTier
    min_effect: float | None = None


@dataclass(frozen=True)
class GatePolicy:
    """The requirements for a candidate. ``alpha`` is one-sided; ``margin`` and ``min_effect`` are in the metric's unit.

    Raises `InvalidInput` naming every value out of range. For answer_correctness the margin is below 1.
    """

    margin: float = 0.05
    alpha: float = 0.05
    min_coverage: float = 0.98
    min_effect: float = 0.02
    metric: str = PRIMARY_METRIC
    higher_is_better: bool = True
    slices: tuple[SliceRule, ...] = ()

    def __post_init__(self) -> None:
        violations = Violations()
        if self.unit_interval:
            violations.check(0 <= self.margin < 1, "margin", "must be in [0, 1)")
            violations.check(0 <= self.min_effect <= 1, "min_effect", "must be in [0, 1]")
        else:
            violations.check(0 <= self.margin < inf, "margin", "must be at least 0 and finite")
            violations.check(0 <= self.min_effect < inf, "min_effect", "must be at least 0 and finite")
        violations.check(0 < self.alpha < 0.5, "alpha", "must be in (0, 0.5)")
        violations.check(0 <= self.min_coverage <= 1, "min_coverage", "must be in [0, 1]")
        violations.check(bool(self.metric), "metric", "must not be empty")
        self._check_slices(violations)
        violations.raise_if_any()

    @property
    def unit_interval(self) -> bool:
        """Whether the metric is known to lie in [0, 1]."""
        return self.metric == PRIMARY_METRIC

    def _check_slices(self, violations: Violations) -> None:
        seen = set()
        for index, rule in enumerate(self.slices):
            at = violations.under(f"slices[{index}]")
            at.check(rule.dimension in DIMENSIONS, "dimension", f"must be one of {', '.join(DIMENSIONS)}")
            if rule.min_effect is not None:
                at.check(0 <= rule.min_effect < inf, "min_effect", "must be at least 0 and finite")
            name = (rule.dimension, rule.value)
            at.check(name not in seen, "value", f"duplicate rule for {rule.dimension} {rule.value!r}")
            seen.add(name)
