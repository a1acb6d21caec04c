"""Power at the difference that a comparison says it could detect, and at the items that it says are needed.

The test's power is enumerated with SciPy's binomials and the p-values of `paired`, apart from the package's own
enumeration; for graded values the sign-flip test is simulated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from tunix_rt.quality.paired import (
    detectable_difference,
    detectable_mean,
    discordant_items_to_detect,
    mcnemar_mid_p_two_sided,
)

SIZES = (25, 50, 100, 200, 400, 1000)
DISCORDANCES = (0.02, 0.05, 0.1, 0.2, 0.3)
# (difference, discordance) of comparisons whose items needed are asked for.
EFFECTS = (
    (0.02, 0.02),
    (0.02, 0.05),
    (0.05, 0.05),
    (0.05, 0.1),
    (0.05, 0.3),
    (0.1, 0.1),
    (0.1, 0.3),
    (0.2, 0.2),
    (0.3, 0.3),
)
GRADED_SIZES = (25, 100, 400)
REPLICATES = 4_000
FLIPS = 1_999
_TAIL = 1e-12


@dataclass(frozen=True)
class Power:
    """Power of a two-sided test at 5 % for one stated difference; a discordance below it was raised to it."""

    values: str
    n: int
    discordance: float
    difference: float
    power: float


def at_detectable(n: int, discordance: float) -> Power:
    """At the smallest difference that ``n`` items are said to show."""
    difference = detectable_difference(n, discordance)
    raised = max(discordance, difference)
    return Power("detectable difference", n, raised, difference, power(n, raised, difference))


def at_needed(difference: float, discordance: float) -> Power:
    """At the number of items that are said to be needed."""
    n = discordant_items_to_detect(difference, discordance)
    return Power("items needed", n, discordance, difference, power(n, discordance, difference))


def power(n: int, discordance: float, difference: float) -> float:
    """Probability that mid-p McNemar is at most 5 %, over every number of discordant items and fixes."""
    total = 0.0
    for discordant in range(1, n + 1):
        weight = stats.binom.pmf(discordant, n, discordance)
        if weight < _TAIL:
            continue
        few = next(k for k in range(discordant + 1) if mcnemar_mid_p_two_sided(k, discordant - k) > 0.05)
        fixes = (1 + difference / discordance) / 2
        significant = stats.binom.cdf(few - 1, discordant, fixes) + stats.binom.sf(discordant - few, discordant, fixes)
        total += weight * significant
    return total


def graded(n: int, spread: float = 0.2, seed: int = 3) -> Power:
    """Differences of graded values, normal with that standard deviation, at the smallest mean said to be shown."""
    source = np.random.default_rng(seed)
    difference = detectable_mean(n, spread**2)
    differences = source.normal(difference, spread, (REPLICATES, n))
    flipped = np.abs(differences @ source.choice((-1.0, 1.0), (n, FLIPS)))
    larger = (flipped >= np.abs(differences.sum(1))[:, None]).sum(1)
    shown = (1 + larger) / (FLIPS + 1) <= 0.05
    return Power("detectable mean, graded", n, spread**2 + difference**2, difference, float(shown.mean()))
