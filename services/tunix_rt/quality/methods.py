"""The versions of the statistics: which method made a stored scorecard or gate decision.

Version 1 made everything that names no version. A change of any interval or p-value is a new version, so that evidence
is verified by the method that made it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tunix_rt.quality import statistics_1, statistics_2
from tunix_rt.quality.estimates import Estimate
from tunix_rt.quality.exact_majorities import exact_majority_value
from tunix_rt.quality.majorities import majority_value
from tunix_rt.quality.pairing import Pairing

FIRST_VERSION = 1
CURRENT_VERSION = 2


class EstimateMean(Protocol):
    """Mean and interval of values with their cluster ids; ``count``: they are counts, not shares in [0, 1]."""

    def __call__(self, values: Sequence[float], cluster_ids: Sequence[str], /, *, count: bool = False) -> Estimate: ...


@dataclass(frozen=True)
class Method:
    """One version; ``seed`` matters for version 1 alone.

    ``interval`` takes pairing, confidence and seed, ``lower_bound`` pairing, α and seed, ``p_values`` pairing and seed
    and gives (two-sided, one-sided that B is worse). ``independent``: whether nothing is clustered.
    """

    version: int
    estimate_mean: EstimateMean
    interval: Callable[[Pairing, float, int], tuple[float, float]]
    lower_bound: Callable[[Pairing, float, int], float]
    p_values: Callable[[Pairing, int], tuple[float, float]]
    ci_method: Callable[[Pairing], str]
    p_method: Callable[[Pairing], str]
    independent: Callable[[Pairing], bool]
    majority_value: Callable[[Sequence[tuple[str, float]], int], float]

    def counts_suffice(self, pairing: Pairing) -> bool:
        """Whether the counts of discordant items are all that matters: right-or-wrong, independent items."""
        return pairing.binary and self.independent(pairing)

    @property
    def stored_version(self) -> int | None:
        """As scorecards and decisions say it: those of version 1 say nothing."""
        return None if self.version == FIRST_VERSION else self.version


METHODS: Mapping[int, Method] = {
    1: Method(
        1,
        statistics_1.estimate_mean,
        statistics_1.interval,
        statistics_1.lower_bound,
        statistics_1.p_values,
        statistics_1.ci_method,
        statistics_1.p_method,
        statistics_1.independent,
        exact_majority_value,
    ),
    2: Method(
        2,
        statistics_2.estimate_mean,
        lambda pairing, confidence, seed: statistics_2.interval(pairing, confidence),
        lambda pairing, alpha, seed: statistics_2.lower_bound(pairing, alpha),
        lambda pairing, seed: statistics_2.p_values(pairing),
        statistics_2.ci_method,
        statistics_2.p_method,
        statistics_2.independent,
        majority_value,
    ),
}
CURRENT = METHODS[CURRENT_VERSION]


def method_of(version: int | None) -> Method | None:
    """The method of a stored version, none said being the first; None for one of a later release."""
    return METHODS.get(version or FIRST_VERSION)
