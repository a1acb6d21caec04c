"""Mean scores of repeated trials with Student's t intervals, and paired differences over the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt

from tunix_rt.quality.distributions import t_quantile
from tunix_rt.quality.estimates import CONFIDENCE

# Relative tolerance: the rounding error of differences of two scores of a few hundred items is smaller.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its two-sided 95 % interval; the ends are None when it cannot be estimated."""

    mean: float
    low: float | None
    high: float | None

    @property
    def known(self) -> bool:
        """Whether the interval could be estimated."""
        return self.low is not None


def mean_interval(values: Sequence[float]) -> MeanInterval:
    """Mean of ``values`` (at least one) and Student's t interval with n − 1 degrees of freedom.

    No interval for fewer than two values, or when all are equal up to rounding: the variance is unknown then. Does not
    depend on the order of the values, to the last bit.
    """
    n = len(values)
    mean = fsum(values) / n
    squares = fsum((value - mean) ** 2 for value in values)
    if n < 2 or max(values) - min(values) <= _ROUNDING * max(map(abs, values)):
        return MeanInterval(mean, None, None)
    half = t_quantile(0.5 + CONFIDENCE / 2, n - 1) * sqrt(squares / (n - 1) / n)
    return MeanInterval(mean, mean - half, mean + half)


def paired_difference(values: Mapping[int, float], others: Mapping[int, float]) -> MeanInterval | None:
    """Mean of ``values`` − ``others`` over the keys (seeds) that both have; None without a common key."""
    both = sorted(values.keys() & others.keys())
    return mean_interval([values[key] - others[key] for key in both]) if both else None
