"""The gate: may this candidate take the baseline's place?

Owns the rule and its explanation. A decision is a pure function of the policy, both identities and the stored items,
so it can be repeated by anyone who has them; its digest says so.

INVALID       the identities are not comparable, or the coverage of either side is under the policy's minimum
PASS          the one-sided lower bound of Δ = B − A at α lies above −margin: not worse by the margin, shown
FAIL          B is worse at α (mid-p McNemar, or sign-flip) and by at least the policy's smallest effect
INCONCLUSIVE  anything else, with about how many items would decide
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from tunix_rt.errors import Violations
from tunix_rt.quality.canonical import canonical_json, sha256_digest
from tunix_rt.quality.compare import PairedComparison, Pairing, PairInput, compare, lower_bound, pair_up
from tunix_rt.quality.identity import ScoreIdentity, mismatches
from tunix_rt.quality.paired import items_to_detect, items_to_exclude

# Above this a bound is not "above −margin" by rounding alone.
_SLACK = 1e-12


class GateVerdict(StrEnum):
    """The decision."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"


@dataclass(frozen=True)
class GatePolicy:
    """What is asked of a candidate; ``alpha`` is one-sided. Raises `InvalidInput` when a value is out of its range."""

    margin: float = 0.05
    alpha: float = 0.05
    min_coverage: float = 0.98
    min_effect: float = 0.02

    def __post_init__(self) -> None:
        violations = Violations()
        violations.check(0 <= self.margin < 1, "margin", "must be in [0, 1)")
        violations.check(0 < self.alpha < 0.5, "alpha", "must be in (0, 0.5)")
        violations.check(0 <= self.min_coverage <= 1, "min_coverage", "must be in [0, 1]")
        violations.check(0 <= self.min_effect <= 1, "min_effect", "must be in [0, 1]")
        violations.raise_if_any()


@dataclass(frozen=True)
class GateSide:
    """One evaluation: what it is a score of, and every one of its items, unscored ones with value None."""

    identity: ScoreIdentity
    items: Sequence[PairInput]

    @property
    def coverage(self) -> float:
        """Share of its rows that were scored."""
        return sum(item.value is not None for item in self.items) / len(self.items) if self.items else 0.0


@dataclass(frozen=True)
class GateOutcome:
    """``statistics`` is None when INVALID kept it from being computed; ``items_needed`` is 0 unless INCONCLUSIVE."""

    verdict: GateVerdict
    statistics: PairedComparison | None
    lower_bound: float | None
    items_needed: int
    explanation: str
    digest: str


def decide(policy: GatePolicy, baseline: GateSide, candidate: GateSide, *, seed: int = 0) -> GateOutcome:
    """The gate's decision on ``candidate`` against ``baseline``."""
    refusal = _refusal(policy, baseline, candidate)
    if refusal is not None:
        return _outcome(policy, baseline, candidate, GateVerdict.INVALID, None, None, 0, refusal)
    pairing = pair_up(baseline.items, candidate.items)
    statistics = compare(baseline.items, candidate.items, seed=seed)
    if not pairing.pairs:
        return _outcome(
            policy, baseline, candidate, GateVerdict.INVALID, statistics, None, 0, "no item was scored in both"
        )
    bound = lower_bound(pairing, policy.alpha, seed)
    verdict, explanation = _apply(policy, statistics, bound)
    needed = _items_needed(policy, pairing) if verdict is GateVerdict.INCONCLUSIVE else 0
    if needed:
        explanation += f"; about {needed} items would decide"
    return _outcome(policy, baseline, candidate, verdict, statistics, bound, needed, explanation)


def _refusal(policy: GatePolicy, baseline: GateSide, candidate: GateSide) -> str | None:
    different = mismatches(baseline.identity, candidate.identity)
    if different:
        return f"not comparable: {', '.join(different)} differ or are unknown"
    for name, side in (("baseline", baseline), ("candidate", candidate)):
        if side.coverage < policy.min_coverage:
            return f"coverage of the {name} is {side.coverage:.4f}, under {policy.min_coverage:g}"
    return None


def _apply(policy: GatePolicy, found: PairedComparison, bound: float) -> tuple[GateVerdict, str]:
    counts = (
        f"{found.n_regressions} regressions and {found.n_fixes} fixes in {found.n_paired} items, Δ = {found.delta:+.4f}"
    )
    bound_text = f"lower bound {bound:+.4f} at α = {policy.alpha:g}"
    if bound > -policy.margin + _SLACK:
        return GateVerdict.PASS, f"{counts}: {bound_text} is above −{policy.margin:g}"
    if found.p_worse <= policy.alpha and -found.delta >= policy.min_effect - _SLACK:
        return (
            GateVerdict.FAIL,
            f"{counts}: worse with p = {found.p_worse:.4f} ≤ {policy.alpha:g} and by at least {policy.min_effect:g}",
        )
    return (
        GateVerdict.INCONCLUSIVE,
        f"{counts}: {bound_text} is not above −{policy.margin:g}, and p = {found.p_worse:.4f} for worse fails nothing",
    )


def _items_needed(policy: GatePolicy, pairing: Pairing) -> int:
    """Items at which the effects seen here would decide with 80 % power; at least one more than there are."""
    delta, moment = pairing.delta, pairing.second_moment()
    if delta > -policy.margin:
        needed = items_to_exclude(delta, moment, policy.margin, policy.alpha)
    else:
        needed = items_to_detect(delta, moment, policy.alpha, sides=1)
    return max(needed, len(pairing.pairs) + 1)


def _outcome(
    policy: GatePolicy,
    baseline: GateSide,
    candidate: GateSide,
    verdict: GateVerdict,
    statistics: PairedComparison | None,
    bound: float | None,
    needed: int,
    explanation: str,
) -> GateOutcome:
    document = {
        "policy": asdict(policy),
        "baseline": _side(baseline),
        "candidate": _side(candidate),
        "verdict": verdict.value,
        "lower_bound": bound,
        "items_needed": needed,
        "delta": None if statistics is None else statistics.delta,
        "p_worse": None if statistics is None else statistics.p_worse,
    }
    return GateOutcome(verdict, statistics, bound, needed, explanation, sha256_digest(canonical_json(document)))


def _side(side: GateSide) -> dict[str, object]:
    """The side as it enters the digest: identity and values, in the order of item ids."""
    rows = sorted((item.item_id, -1.0 if item.value is None else item.value) for item in side.items)
    return {"identity": asdict(side.identity), "items": [[item_id, None if v < 0 else v] for item_id, v in rows]}
