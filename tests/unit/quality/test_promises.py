"""What intervals, gate and stated power promise, enumerated exactly at a few points.

`make bench-statistics` goes through all of them, and through simulations of graded and clustered values.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunix_rt.quality.compare import PairInput, compare
from tunix_rt.quality.gate import GatePolicy, GateSide, GateVerdict, decide
from tunix_rt.quality.identity import ScoreIdentity
from tunix_rt.quality.outcomes import Outcome
from tunix_rt.quality.scorecard import Scored, scorecard


@pytest.mark.parametrize(("n", "worst"), [(25, 0.89), (100, 0.92)])
def test_scorecard_interval_holds_the_true_score_95_percent_of_the_time(n: int, worst: float) -> None:
    cards = [scorecard([Scored(f"{i}", Outcome.SCORED, float(i < right)) for i in range(n)]) for right in range(n + 1)]
    low, high = np.array([card.ci_low for card in cards]), np.array([card.ci_high for card in cards])
    held = [
        stats.binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum() for p in np.linspace(0.02, 0.98, 97)
    ]
    assert 0.94 <= np.mean(held) <= 0.97
    assert min(held) > worst


def _sides(regressions: int, fixes: int, n: int) -> tuple[list[PairInput], list[PairInput]]:
    before = [PairInput(f"{i}", float(not regressions <= i < regressions + fixes)) for i in range(n)]
    return before, [PairInput(f"{i}", float(i >= regressions)) for i in range(n)]


def _chance(regressions: int, fixes: int, n: int, discordance: float, difference: float) -> float:
    shares = [(discordance - difference) / 2, (discordance + difference) / 2, 1 - discordance]
    return float(stats.multinomial.pmf([regressions, fixes, n - regressions - fixes], n, shares))


@pytest.mark.parametrize("discordance", [0.05, 0.08])
def test_gate_errs_in_at_most_6_percent(discordance: float) -> None:
    n, most = 100, 24  # more discordant items have a probability under 1e-5
    identity = ScoreIdentity("sha256:e", "scorer", "sha256:g", "sha256:m")
    false_pass = false_fail = 0.0
    for discordant in range(most):
        for regressions in range(discordant + 1):
            fixes = discordant - regressions
            before, after = _sides(regressions, fixes, n)
            verdict = decide(GatePolicy(), GateSide(identity, before), GateSide(identity, after)).verdict
            if verdict is GateVerdict.PASS:
                false_pass += _chance(regressions, fixes, n, discordance, -0.05)
            if verdict is GateVerdict.FAIL:
                false_fail += _chance(regressions, fixes, n, discordance, 0.0)
    assert 0.02 < false_pass <= 0.06
    assert 0.02 < false_fail <= 0.06


def test_stated_difference_is_shown_by_the_comparison_itself_in_80_percent() -> None:
    n = 60
    stated = compare(*_sides(6, 0, n)).detectable
    discordance = max(0.1, stated)
    shown = sum(
        _chance(regressions, discordant - regressions, n, discordance, -stated)
        for discordant in range(26)
        for regressions in range(discordant + 1)
        if compare(*_sides(regressions, discordant - regressions, n)).p_value <= 0.05
    )
    assert shown == pytest.approx(0.80, abs=0.001)
