"""The slices of a gate: is the candidate worse on the items that share a label?

P-values are Holm-corrected over the slices of a tier. `gate` defines the effect of a FAIL.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tunix_rt.quality.gate_policy import GatePolicy, GateVerdict, SliceRule, SliceTier
from tunix_rt.quality.methods import Method
from tunix_rt.quality.paired import holm
from tunix_rt.quality.pairing import DIMENSIONS, Pairing, PairInput

# Tolerance for rounding errors.
_SLACK = 1e-12


@dataclass(frozen=True)
class SliceOutcome:
    """Fields as in models.proto's SliceDecision. ``p_adjusted`` is Holm-corrected over the tier's slices with pairs.

    PASS: the slice was not shown to be worse. INCONCLUSIVE: it has no pair.
    """

    dimension: str
    value: str
    tier: SliceTier
    n_paired: int
    n_regressions: int
    n_fixes: int
    delta: float
    p_worse: float
    p_adjusted: float
    verdict: GateVerdict


def decide_slices(
    policy: GatePolicy, pairing: Pairing, rows: Iterable[PairInput], method: Method, seed: int
) -> tuple[SliceOutcome, ...]:
    """Every slice that the policy has a rule for, critical ones first, then by dimension and value.

    ``pairing`` is oriented so that higher is better; ``rows`` are the items of both sides. A slice FAILs when
    it is worse at α after Holm's correction over its tier, and by at least its smallest effect.
    """
    members = {dimension: pairing.slices(dimension) for dimension in DIMENSIONS}
    found = []
    for rule in _one_rule_per_slice(policy.slices, rows):
        part = members[rule.dimension].get(rule.value, Pairing((), ()))
        found.append((rule, part, method.p_values(part, seed)[1]))
    return tuple(
        _outcome(policy, rule, part, p_worse, p_adjusted)
        for tier in SliceTier
        for rule, part, p_worse, p_adjusted in _adjusted([each for each in found if each[0].tier is tier])
    )


def _one_rule_per_slice(rules: Iterable[SliceRule], rows: Iterable[PairInput]) -> list[SliceRule]:
    """One rule per slice, sorted. A rule for every value does not override one that names the value."""
    named = {(rule.dimension, rule.value): rule for rule in rules}
    rows = list(rows)
    for rule in [rule for rule in named.values() if not rule.value]:
        del named[rule.dimension, ""]
        for label in {DIMENSIONS[rule.dimension](row) for row in rows} - {""}:
            named.setdefault((rule.dimension, label), replace(rule, value=label))
    return [named[key] for key in sorted(named)]


def _adjusted(
    found: list[tuple[SliceRule, Pairing, float]],
) -> Iterable[tuple[SliceRule, Pairing, float, float]]:
    adjusted = iter(holm([p for _, part, p in found if part.pairs]))
    for rule, part, p_worse in found:
        yield rule, part, p_worse, next(adjusted) if part.pairs else 1.0


def _outcome(policy: GatePolicy, rule: SliceRule, part: Pairing, p_worse: float, p_adjusted: float) -> SliceOutcome:
    least = policy.min_effect if rule.min_effect is None else rule.min_effect
    worse = p_adjusted <= policy.alpha and -part.delta >= least - _SLACK
    shown = GateVerdict.FAIL if worse else GateVerdict.PASS
    delta = part.delta if policy.higher_is_better else 0.0 - part.delta
    return SliceOutcome(
        rule.dimension,
        rule.value,
        rule.tier,
        len(part.pairs),
        part.regressions,
        part.fixes,
        delta,
        p_worse,
        p_adjusted,
        shown if part.pairs else GateVerdict.INCONCLUSIVE,
    )
