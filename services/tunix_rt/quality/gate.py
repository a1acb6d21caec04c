"""The gate: may this candidate replace the baseline?

A decision is a pure function of the policy, both identities and the stored items, so anyone who has them can repeat it.
Its digest covers them all.

INVALID       the identities are not comparable, or the coverage of a side is below the policy's minimum
PASS          the one-sided lower bound of Δ = B − A at α is above −margin: B is shown to be not worse by the margin
FAIL          not PASS, and B is worse at α (mid-p McNemar or sign-flip) by at least the policy's smallest effect; or a
              critical slice FAILs, whatever the overall result
INCONCLUSIVE  anything else, with the approximate number of items that would decide

If lower values are better, Δ stays B − A, and the upper bound must be below +margin. A gate with critical slices can
FAIL in two ways, each with probability at most α if nothing changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tunix_rt.contract.digests import canonical_json, sha256_digest
from tunix_rt.quality.compare import PairedComparison, comparison_of, turned_around
from tunix_rt.quality.gate_policy import GatePolicy, GateVerdict, SliceRule, SliceTier
from tunix_rt.quality.gate_slices import SliceOutcome, decide_slices
from tunix_rt.quality.identity import ScoreIdentity, mismatches
from tunix_rt.quality.methods import CURRENT, Method
from tunix_rt.quality.paired import items_to_detect, items_to_exclude, mean_items_to_detect
from tunix_rt.quality.pairing import Pairing, PairInput, pair_up
from tunix_rt.quality.statistics_2 import UNKNOWN

__all__ = [
    "GateOutcome",
    "GatePolicy",
    "GateSide",
    "GateVerdict",
    "SliceOutcome",
    "SliceRule",
    "SliceTier",
    "decide",
]

# Tolerance for rounding errors.
_SLACK = 1e-12
_SCORER = "scorer_version"


@dataclass(frozen=True)
class GateSide:
    """One evaluation: its identity, and every item with its value of the policy's metric (None: not scored, or without
    this metric)."""

    identity: ScoreIdentity
    items: Sequence[PairInput]

    @property
    def coverage(self) -> float:
        """Share of rows that were scored."""
        return sum(item.value is not None for item in self.items) / len(self.items) if self.items else 0.0


@dataclass(frozen=True)
class GateOutcome:
    """``statistics`` is None for INVALID inputs; ``items_needed`` is 0 unless INCONCLUSIVE.

    ``lower_bound`` bounds Δ on its worse side: it is the upper bound if lower values are better.
    """

    verdict: GateVerdict
    statistics: PairedComparison | None
    lower_bound: float | None
    items_needed: int
    explanation: str
    digest: str
    slices: tuple[SliceOutcome, ...] = ()


@dataclass(frozen=True)
class _Finding:
    """The part of the outcome that the digest covers."""

    verdict: GateVerdict
    explanation: str
    statistics: PairedComparison | None = None
    lower_bound: float | None = None
    items_needed: int = 0
    slices: tuple[SliceOutcome, ...] = ()


def decide(
    policy: GatePolicy, baseline: GateSide, candidate: GateSide, *, method: Method = CURRENT, seed: int = 0
) -> GateOutcome:
    """The gate's decision on ``candidate`` compared with ``baseline``. ``seed`` is that of version 1 of the statistics.

    Raises ValueError for a value that is not finite, or an answer_correctness outside [0, 1].
    """
    refusal = _refusal(policy, baseline, candidate)
    found = _Finding(GateVerdict.INVALID, refusal) if refusal else _find(policy, baseline, candidate, method, seed)
    return GateOutcome(
        verdict=found.verdict,
        statistics=found.statistics,
        lower_bound=found.lower_bound,
        items_needed=found.items_needed,
        explanation=found.explanation,
        digest=_digest(policy, baseline, candidate, found),
        slices=found.slices,
    )


def _refusal(policy: GatePolicy, baseline: GateSide, candidate: GateSide) -> str | None:
    different = mismatches(baseline.identity, candidate.identity)
    if different:
        advice = "; score the older one again with `tunix-rt evaluations rescore`" if _SCORER in different else ""
        return f"not comparable: {', '.join(different)} differ or are unknown{advice}"
    for name, side in (("baseline", baseline), ("candidate", candidate)):
        if side.coverage < policy.min_coverage:
            return f"coverage of the {name} is {side.coverage:.4f}, under {policy.min_coverage:g}"
    return None


def _find(policy: GatePolicy, baseline: GateSide, candidate: GateSide, method: Method, seed: int) -> _Finding:
    # If lower is better the sides are swapped, so "worse" is always the negative side of the pairing.
    before, after = (baseline, candidate) if policy.higher_is_better else (candidate, baseline)
    pairing = pair_up(before.items, after.items, unit_interval=policy.unit_interval)
    statistics = comparison_of(pairing, method, seed)
    reported = statistics if policy.higher_is_better else turned_around(statistics)
    if not pairing.pairs:
        return _Finding(GateVerdict.INVALID, "no item was scored in both", reported)
    bound = method.lower_bound(pairing, policy.alpha, seed)
    verdict, explanation = _apply(policy, statistics, bound)
    slices = decide_slices(policy, pairing, [*baseline.items, *candidate.items], method, seed)
    failing = [part for part in slices if part.verdict is GateVerdict.FAIL]
    if any(part.tier is SliceTier.CRITICAL for part in failing):
        verdict = GateVerdict.FAIL
    if statistics.ci_method == UNKNOWN:
        explanation += "; the items say nothing of the spread of their differences"
    explanation += "".join(f"; {_slice_text(part)}" for part in failing)
    needed = _items_needed(policy, pairing, method) if verdict is GateVerdict.INCONCLUSIVE else 0
    if needed:
        explanation += f"; about {needed} items would decide"
    return _Finding(verdict, explanation, reported, bound if policy.higher_is_better else 0.0 - bound, needed, slices)


def _apply(policy: GatePolicy, found: PairedComparison, bound: float) -> tuple[GateVerdict, str]:
    """The verdict on all items, and why. ``found`` and ``bound`` are oriented so that higher is better."""
    sign, side, clear, limit = (1, "lower", "above", "−") if policy.higher_is_better else (-1, "upper", "below", "+")
    counts = (
        f"{found.n_regressions} regressions and {found.n_fixes} fixes in {found.n_paired} items, "
        f"Δ = {sign * found.delta + 0.0:+.4f}"
    )
    bound_text = f"{side} bound {sign * bound + 0.0:+.4f} at α = {policy.alpha:g}"
    if bound > -policy.margin + _SLACK:
        return GateVerdict.PASS, f"{counts}: {bound_text} is {clear} {limit}{policy.margin:g}"
    if found.p_worse <= policy.alpha and -found.delta >= policy.min_effect - _SLACK:
        return (
            GateVerdict.FAIL,
            f"{counts}: worse with p = {found.p_worse:.4f} ≤ {policy.alpha:g} and by at least {policy.min_effect:g}",
        )
    return (
        GateVerdict.INCONCLUSIVE,
        f"{counts}: {bound_text} is not {clear} {limit}{policy.margin:g}, "
        f"and p = {found.p_worse:.4f} for worse fails nothing",
    )


def _slice_text(part: SliceOutcome) -> str:
    return (
        f"{part.tier.lower()} slice {part.dimension} {part.value!r} is worse: {part.n_regressions} regressions and "
        f"{part.n_fixes} fixes in {part.n_paired} items, Δ = {part.delta:+.4f}, adjusted p = {part.p_adjusted:.4f}"
    )


def _items_needed(policy: GatePolicy, pairing: Pairing, method: Method) -> int:
    """Number of items at which the observed effects would decide with 80 % power; more than there are."""
    independent = method.independent(pairing)
    delta, moment = pairing.delta, pairing.second_moment(independent)
    if delta > -policy.margin:
        needed = items_to_exclude(delta, moment, policy.margin, policy.alpha, scale=pairing.scale)
    elif method.counts_suffice(pairing):
        needed = items_to_detect(delta, moment, policy.alpha, sides=1)
    else:
        needed = mean_items_to_detect(delta, pairing.variance(independent), policy.alpha, sides=1)
    return max(needed, len(pairing.pairs) + 1)


def _digest(policy: GatePolicy, baseline: GateSide, candidate: GateSide, found: _Finding) -> str:
    document = {
        "policy": asdict(policy),
        "baseline": _side(baseline),
        "candidate": _side(candidate),
        "verdict": found.verdict.value,
        "lower_bound": found.lower_bound,
        "items_needed": found.items_needed,
        "delta": None if found.statistics is None else found.statistics.delta,
        "p_worse": None if found.statistics is None else found.statistics.p_worse,
        "slices": [asdict(part) for part in found.slices],
    }
    version = None if found.statistics is None else found.statistics.statistics_version
    return sha256_digest(canonical_json(document | ({"statistics_version": version} if version else {})))


def _side(side: GateSide) -> dict[str, object]:
    """The side's part of the digest: identity and values, ordered by item id."""
    rows = sorted(
        ((item.item_id, item.value) for item in side.items), key=lambda row: (row[0], row[1] is not None, row[1] or 0.0)
    )
    return {"identity": asdict(side.identity), "items": [[item_id, value] for item_id, value in rows]}
