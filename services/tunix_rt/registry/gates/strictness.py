"""Whether one gate policy asks at least as much of a candidate as another."""

from __future__ import annotations

from tunix_rt.quality.gate_policy import GatePolicy, SliceRule, SliceTier


def at_least_as_strict(policy: GatePolicy, other: GatePolicy) -> bool:
    """Whether every candidate that passes ``policy`` passes ``other``, too, as far as that can be said of any scores.

    Policies about another metric or another error rate cannot be ranked: then False.
    """
    comparable = (policy.metric, policy.higher_is_better, policy.alpha) == (
        other.metric,
        other.higher_is_better,
        other.alpha,
    )
    return (
        comparable
        and policy.margin <= other.margin
        and policy.min_coverage >= other.min_coverage
        and policy.min_effect <= other.min_effect
        and _critical(policy) == _critical(other)
    )


def _critical(policy: GatePolicy) -> frozenset[SliceRule]:
    """The slices that can fail a candidate. p-values are corrected for their number: a longer list is not stricter."""
    return frozenset(rule for rule in policy.slices if rule.tier is SliceTier.CRITICAL)
