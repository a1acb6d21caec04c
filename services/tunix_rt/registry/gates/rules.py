"""Gate policies and decisions: may a candidate take the place of what its baseline stands for?

The rule itself is `quality.gate`; here it is fed with stored scores, and its decision is stored for good.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.contract.digests import canonical_json, sha256_digest
from tunix_rt.contract.statements import gate_decision_statement
from tunix_rt.errors import FailedPrecondition, NotFound
from tunix_rt.quality import gate
from tunix_rt.quality.gate_policy import GatePolicy, GateVerdict, SliceRule, SliceTier
from tunix_rt.registry.evalsets.rules import items_by_id
from tunix_rt.registry.evaluations.comparison import check_versions, score_identity
from tunix_rt.registry.evaluations.items import values_of
from tunix_rt.registry.evaluations.messages import document_of, statistics_document
from tunix_rt.registry.evaluations.rules import get_evaluation, hold_scores
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.evaluations.verification import is_built_in
from tunix_rt.registry.gates.baselines import get_baseline, in_force
from tunix_rt.registry.gates.tables import GateDecisionRow, GatePolicyRow
from tunix_rt.registry.kernel.messages import time_text
from tunix_rt.registry.kernel.outbox import emit_fact
from tunix_rt.registry.kernel.projects import SHARED, own_project
from tunix_rt.registry.kernel.rows import check_replaces, lock_name, new_id, utc_now
from tunix_rt.registry.kernel.signing import sign
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.runs.tables import RunRow, run_spec

DEFAULT_POLICY: Final = "default"


@dataclass(frozen=True)
class PolicySpec:
    """A policy that is to be made; the rules' defaults are those that models.proto names."""

    name: str
    rules: GatePolicy = field(default_factory=GatePolicy)
    baseline: str = ""
    description: str = ""


BUILT_IN: Final = PolicySpec(
    DEFAULT_POLICY, baseline="default", description="Built in: not worse than the baseline by 0.05, at 95 % confidence."
)


def create_policy(
    session: Session, spec: PolicySpec, *, actor: str, given_etag: str = "", project: str = ""
) -> GatePolicyRow:
    """The next version of the policy's name; earlier versions stay as they are. It belongs to ``project``, by default
    the session's.

    Where the name has a version, raises `InvalidInput` without the etag of the newest and `Aborted` for another.
    """
    lock_name(session, "gate_policy", spec.name)
    newest = _newest(session, spec.name)
    check_replaces(
        given_etag, None if newest is None else newest.version, f"gate policy {spec.name!r}", "GetGatePolicy"
    )
    row = GatePolicyRow(
        id=new_id("pol"),
        name=spec.name,
        version=1 if newest is None else newest.version + 1,
        baseline=spec.baseline,
        description=spec.description,
        create_time=utc_now(),
        created_by=actor,
        project=project,
        **document_of(spec.rules),
    )
    session.add(row)
    session.flush()
    return row


def rules_of(row: GatePolicyRow) -> GatePolicy:
    """What a stored policy asks of a candidate."""
    return GatePolicy(
        margin=row.margin,
        alpha=row.alpha,
        min_coverage=row.min_coverage,
        min_effect=row.min_effect,
        metric=row.metric,
        higher_is_better=row.higher_is_better,
        slices=tuple(SliceRule(**each | {"tier": SliceTier(each["tier"])}) for each in row.slices),
    )


def ensure_default_policy(session: Session) -> None:
    """Make the built-in policy unless it is there. Called after every migration."""
    lock_name(session, "gate_policy", DEFAULT_POLICY)
    if _newest(session, DEFAULT_POLICY) is None:
        create_policy(session, BUILT_IN, actor="registry", project=SHARED)


def get_policy(session: Session, id_or_name: str) -> GatePolicyRow:
    """The policy with that id, or the newest version of that name in the project. Raises `NotFound`."""
    row = session.get(GatePolicyRow, id_or_name) or _newest(session, id_or_name)
    if row is None:
        raise NotFound(f"there is no gate policy with id or name {id_or_name!r}")
    return row


def get_decision(session: Session, decision_id: str) -> GateDecisionRow:
    """The decision. Raises `NotFound`."""
    row = session.get(GateDecisionRow, decision_id)
    if row is None:
        raise NotFound(f"there is no gate decision {decision_id!r}")
    return row


def decide(
    session: Session,
    *,
    candidate_id: str,
    baseline_evaluation_id: str,
    baseline: str,
    policy: str,
    actor: str,
) -> GateDecisionRow:
    """Decide whether the candidate passes, and keep the decision.

    Compared with ``baseline_evaluation_id``, else the baseline name ``baseline``, else the policy's own. Raises
    `NotFound`, and `FailedPrecondition` when there is nothing to compare it with, an evaluation has not SUCCEEDED, or
    the scores are of different scorer versions.
    """
    rules = get_policy(session, policy or DEFAULT_POLICY)
    _check_succeeded(get_evaluation(session, candidate_id))
    if not baseline_evaluation_id:
        name = baseline or rules.baseline
        if not name:
            raise FailedPrecondition(f"policy {rules.name!r} names no baseline: give an evaluation or a baseline")
        if not baseline and in_force(session, name) is None:
            raise FailedPrecondition(
                f"baseline {name!r} of policy {rules.name!r} is not locked: lock an evaluation first"
            )
        baseline_evaluation_id = get_baseline(session, name).evaluation_id
    holder, candidate = hold_scores(session, baseline_evaluation_id, candidate_id)
    _check_succeeded(holder)
    check_versions(holder, candidate)
    return _decide(session, rules, holder, candidate, actor=actor)


def decide_for_run(session: Session, evaluation: EvaluationRow) -> GateDecisionRow | None:
    """Called when an evaluation has ended. Decide the gate that its run asked for, when this is the run's first
    evaluation and has SUCCEEDED; else None.

    Whoever waits for the outcome gets one: without a baseline in force it is INVALID.
    """
    if evaluation.state != JobState.SUCCEEDED:
        return None
    run = session.get(RunRow, evaluation.run_id) if evaluation.run_id else None
    policy = "" if run is None else run_spec(run).gate_policy
    if run is None or not policy or run.evaluation_ids[:1] != [evaluation.id]:
        return None
    rules = get_policy(session, policy)
    holder = in_force(session, rules.baseline) if rules.baseline else None
    if holder is None:
        return _store_decision(session, rules, None, evaluation, _without_baseline(rules, evaluation), actor="registry")
    before, _ = hold_scores(session, holder.evaluation_id, evaluation.id)
    return _decide(session, rules, before, evaluation, actor="registry")


def _newest(session: Session, name: str) -> GatePolicyRow | None:
    return session.scalars(
        select(GatePolicyRow)
        .where(GatePolicyRow.is_of(own_project(session)), col(GatePolicyRow.name) == name)
        .order_by(col(GatePolicyRow.version).desc())
        .limit(1)
    ).first()


def _check_succeeded(row: EvaluationRow) -> None:
    if row.state != JobState.SUCCEEDED:
        raise FailedPrecondition(f"{row.id} is {row.state}: a gate needs evaluations that have SUCCEEDED")


def _decide(
    session: Session, rules: GatePolicyRow, baseline: EvaluationRow, candidate: EvaluationRow, *, actor: str
) -> GateDecisionRow:
    policy = rules_of(rules)
    outcome = gate.decide(policy, _side(session, baseline, policy.metric), _side(session, candidate, policy.metric))
    return _store_decision(session, rules, baseline, candidate, outcome, actor=actor)


def _store_decision(
    session: Session,
    rules: GatePolicyRow,
    baseline: EvaluationRow | None,
    candidate: EvaluationRow,
    outcome: gate.GateOutcome,
    *,
    actor: str,
) -> GateDecisionRow:
    row = GateDecisionRow(
        id=new_id("gate"),
        verdict=outcome.verdict.value,
        policy_id=rules.id,
        baseline_evaluation_id=None if baseline is None else baseline.id,
        candidate_evaluation_id=candidate.id,
        baseline_model_digest="" if baseline is None else baseline.model_digest,
        candidate_model_digest=candidate.model_digest,
        statistics=None if outcome.statistics is None else statistics_document(outcome.statistics),
        lower_bound=outcome.lower_bound,
        metric=rules.metric,
        slices=[document_of(each) for each in outcome.slices],
        items_needed=outcome.items_needed,
        explanation=outcome.explanation,
        digest=outcome.digest,
        verified=baseline is not None and baseline.verified and candidate.verified and is_built_in(rules.metric),
        scorer_version=candidate.scorer_version,
        actor=actor,
        create_time=utc_now(),
    )
    row.signing_key_id, row.signature = sign(session, _signed(row))
    session.add(row)
    session.flush()
    emit_fact(session, row, "decided")
    return row


def _signed(row: GateDecisionRow) -> bytes:
    """What the registry signs of the decision: its fields as clients see them."""
    return gate_decision_statement(
        {
            "id": row.id,
            "verdict": row.verdict,
            "policy_id": row.policy_id,
            "baseline_evaluation_id": row.baseline_evaluation_id or "",
            "candidate_evaluation_id": row.candidate_evaluation_id,
            "baseline_model_digest": row.baseline_model_digest,
            "candidate_model_digest": row.candidate_model_digest,
            "metric": row.metric,
            "items_needed": row.items_needed,
            "explanation": row.explanation,
            "create_time": time_text(row.create_time),
            "actor": row.actor,
            "digest": row.digest,
            "verified": row.verified,
        }
    )


def _without_baseline(rules: GatePolicyRow, candidate: EvaluationRow) -> gate.GateOutcome:
    explanation = f"nothing to hold it against: baseline {rules.baseline!r} of policy {rules.name!r} is not locked"
    inputs = {"policy": document_of(rules_of(rules)), "baseline": rules.baseline, "candidate": candidate.identity}
    digest = sha256_digest(canonical_json(inputs | {"verdict": GateVerdict.INVALID.value}))
    return gate.GateOutcome(GateVerdict.INVALID, None, None, 0, explanation, digest)


def _side(session: Session, evaluation: EvaluationRow, metric: str) -> gate.GateSide:
    items = items_by_id(session, evaluation.evalset_id)
    return gate.GateSide(score_identity(evaluation), values_of(session, evaluation, items, metric))
