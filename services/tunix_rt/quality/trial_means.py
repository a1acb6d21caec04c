"""Scores of repeated trials: how well a mean is known, and what is between two configurations of the same seeds.

Owns Student's t for both. Works on numbers; knows nothing of sweeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt

from tunix_rt.quality.distributions import t_quantile
from tunix_rt.quality.estimates import CONFIDENCE

# Relative; differences of two scores of a few hundred items are off by less.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its two-sided 95 % interval, whose ends are None where the values do not tell it."""

    mean: float
    low: float | None
    high: float | None

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None


def mean_interval(values: Sequence[float]) -> MeanInterval:
    """Mean of ``values`` (at least one) and Student's t interval with n − 1 degrees of freedom.

    Without an interval under two values, and where all are equal but for rounding: then nothing is known of how they
    scatter. Does not depend on their order, to the last bit.
    """
    n = len(values)
    mean = fsum(values) / n
    squares = fsum((value - mean) ** 2 for value in values)
    if n < 2 or max(values) - min(values) <= _ROUNDING * max(map(abs, values)):
        return MeanInterval(mean, None, None)
    half = t_quantile(0.5 + CONFIDENCE / 2, n - 1) * sqrt(squares / (n - 1) / n)
    return MeanInterval(mean, mean - half, mean + half)


def paired_difference(values: Mapping[int, float], others: Mapping[int, float]) -> MeanInterval | None:
    """Mean of ``values`` − ``others`` over the keys (repeats of one seed) that both have; None when there are none."""
    both = sorted(values.keys() & others.keys())
    return mean_interval([values[key] - others[key] for key in both]) if both else None
