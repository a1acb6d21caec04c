"""What reports on a gate decision tell, read from the platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunix_rt.errors import FailedPrecondition

if TYPE_CHECKING:
    from tunix_rt.client import TunixClient
    from tunix_rt.client.resources.evaluations import Evaluation
    from tunix_rt.client.resources.gates import GateDecision, GatePolicy, SliceDecision
    from tunix_rt.client.resources.scores import Comparison


@dataclass(frozen=True)
class GateFacts:
    """A decision, the policy that it follows and the two evaluations that it is about. ``comparison`` holds the items
    that changed, and is None where the two cannot be compared."""

    decision: GateDecision
    policy: GatePolicy
    baseline: Evaluation
    candidate: Evaluation
    comparison: Comparison | None

    @property
    def verdict(self) -> str:
        """PASS, FAIL, INCONCLUSIVE or INVALID."""
        return self.decision.verdict

    @property
    def metric(self) -> str:
        """What was compared."""
        return self.decision.metric or self.policy.metric or "answer_correctness"


def gate_facts(client: TunixClient, decision: GateDecision) -> GateFacts:
    """The facts around a stored decision."""
    try:
        comparison = client.compare(
            decision.baseline_evaluation_id, decision.candidate_evaluation_id, only_changed=True
        )
    except FailedPrecondition:  # other questions, another scorer: INVALID says so
        comparison = None
    return GateFacts(
        decision=decision,
        policy=client.gate.policy(decision.policy_id),
        baseline=client.evaluations.get(decision.baseline_evaluation_id),
        candidate=client.evaluations.get(decision.candidate_evaluation_id),
        comparison=comparison,
    )


def coverage_problem(facts: GateFacts, evaluation: Evaluation) -> str:
    """Why an evaluation's coverage makes the gate INVALID; "" when it does not."""
    card = evaluation.scorecard
    if card is None or card.coverage >= facts.policy.min_coverage:
        return ""
    return (
        f"coverage {card.coverage:.4f} is under the policy's {facts.policy.min_coverage:g}: "
        f"{card.n_errored} errored and {card.n_skipped} skipped of {card.n_items} items"
    )


def slice_name(found: SliceDecision) -> str:
    """``"category sums (critical)"``"""
    tier = found.tier.lower()
    return f"{found.dimension} {found.value} ({tier})"


def slice_numbers(found: SliceDecision) -> str:
    """The figures of a slice in one line."""
    return (
        f"Δ {found.delta:+.4f} on {found.n_paired} items ({found.n_regressions} regressions, {found.n_fixes} fixes), "
        f"p worse {found.p_worse:.4f}, adjusted {found.p_adjusted:.4f}"
    )
