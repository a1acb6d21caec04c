"""How often the gate errs on right-or-wrong items, exactly: over every number of regressions and fixes.

The discordant items are Binomial(n, discordance), the regressions among them Binomial too: the trinomial of a paired
comparison. Given the number of discordant items, more regressions only make a verdict worse, so the real `gate.decide`
is asked along the borders between verdicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from tunix_rt.quality.compare import PairInput
from tunix_rt.quality.gate import GatePolicy, GateSide, GateVerdict, decide
from tunix_rt.quality.identity import ScoreIdentity

SIZES = (100, 400)
DISCORDANCES = tuple(round(0.02 + 0.01 * k, 2) for k in range(29))
POLICY = GatePolicy()
_TAIL = 1e-12

_BASELINE = ScoreIdentity("sha256:e", "scorer", "sha256:g", "sha256:a")
_CANDIDATE = ScoreIdentity("sha256:e", "scorer", "sha256:g", "sha256:b")


@dataclass(frozen=True)
class Errors:
    """Probabilities at one n and discordance; ``false_pass`` is None where a drop by the margin is not possible."""

    n: int
    discordance: float
    false_pass: float | None
    false_fail: float
    # For what the gate is there: PASS when nothing changed.
    true_pass: float


def errors(n: int, discordance: float) -> Errors:
    """PASS at a true drop of exactly the margin, and FAIL and PASS at no change."""
    dropped = _verdicts(n, discordance, -POLICY.margin) if discordance >= POLICY.margin else None
    unchanged = _verdicts(n, discordance, 0.0)
    return Errors(n, discordance, dropped and dropped[0], unchanged[1], unchanged[0])


def _verdicts(n: int, discordance: float, difference: float) -> tuple[float, float]:
    """Probabilities of PASS and FAIL."""
    worse = (1 - difference / discordance) / 2
    passes = fails = 0.0
    for discordant in range(n + 1):
        weight = stats.binom.pmf(discordant, n, discordance)
        if weight < _TAIL:
            continue
        last_pass, first_fail = borders(n, discordant)
        passes += weight * stats.binom.cdf(last_pass, discordant, worse)
        fails += weight * stats.binom.sf(first_fail - 1, discordant, worse)
    return passes, fails


@cache
def borders(n: int, discordant: int) -> tuple[int, int]:
    """The most regressions that still PASS (−1 if none does) and the fewest that FAIL (one too many if none does)."""
    passing, failing = borders(n, discordant - 1) if discordant else (0, 0)
    first_not_passing = _first(passing + 1, discordant, lambda r: verdict(n, r, discordant - r) is not GateVerdict.PASS)
    first_failing = _first(failing, discordant, lambda r: verdict(n, r, discordant - r) is GateVerdict.FAIL)
    return first_not_passing - 1, first_failing


@cache
def verdict(n: int, regressions: int, fixes: int) -> GateVerdict:
    """What the gate says."""
    before = np.ones(n)
    after = np.ones(n)
    after[:regressions] = 0.0
    before[regressions : regressions + fixes] = 0.0
    sides = [[PairInput(f"{i}", float(value)) for i, value in enumerate(values)] for values in (before, after)]
    return decide(POLICY, GateSide(_BASELINE, sides[0]), GateSide(_CANDIDATE, sides[1])).verdict


def _first(guess: int, last: int, holds: Callable[[int], bool]) -> int:
    """The smallest number from 0 to ``last`` for which ``holds``, else one more; ``holds`` never ceases to."""
    while guess <= last and not holds(guess):
        guess += 1
    while guess > 0 and holds(guess - 1):
        guess -= 1
    return guess
