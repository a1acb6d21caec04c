"""Baselines, gate policies and gate decisions: whether a candidate may replace a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tunix_rt.client.arguments import to_message
from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import Call, Pages, new_request_id, paged, unary
from tunix_rt.client.records import Record
from tunix_rt.client.resources.common import Signature
from tunix_rt.client.resources.scores import PairedStatistics, ScoreIdentity
from tunix_rt.contract.enums import GateVerdict, MetricDirection, SliceTier
from tunix_rt.v1 import models_pb2 as pb
from tunix_rt.v1.models_pb2_grpc import ModelServiceStub as Stub


class Baseline(Record, of=pb.Baseline):
    """A revision of a named baseline: an evaluation that candidates are compared with."""

    _shown = ("name", "revision", "evaluation_id", "note")

    id: str
    name: str
    evaluation_id: str
    run_id: str
    model_id: str
    identity: ScoreIdentity
    locked_by: str
    note: str
    create_time: datetime | None
    revision: int
    etag: str
    project: str


class SliceRule(Record, of=pb.SliceRule):
    """What a policy asks of the items with a label; an empty ``value`` is every value of the dimension."""

    dimension: str
    value: str
    tier: SliceTier
    min_effect: float | None


class GatePolicy(Record, of=pb.GatePolicy):
    """A version of a gate policy; it never changes."""

    _shown = ("id", "name", "version", "metric", "margin", "alpha")

    id: str
    name: str
    version: int
    margin: float
    alpha: float
    min_coverage: float
    min_effect: float
    baseline: str
    create_time: datetime | None
    description: str
    metric: str
    direction: MetricDirection
    slices: tuple[SliceRule, ...]
    project: str
    etag: str


class SliceDecision(Record, of=pb.SliceDecision):
    """The gate's decision on one slice; ``p_adjusted`` is Holm's over the slices of its tier."""

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


class GateDecision(Record, of=pb.GateDecision):
    """A stored decision; it never changes."""

    _shown = ("id", "verdict", "explanation")

    id: str
    verdict: GateVerdict
    policy_id: str
    baseline_evaluation_id: str
    candidate_evaluation_id: str
    baseline_model_digest: str
    candidate_model_digest: str
    statistics: PairedStatistics
    lower_bound: float | None
    items_needed: int
    explanation: str
    create_time: datetime
    actor: str
    digest: str
    slices: tuple[SliceDecision, ...]
    metric: str
    verified: bool
    signature: Signature | None
    project: str
    scorer_version: str


class Baselines(Group[Mode]):
    """``client.baselines``"""

    @one
    @staticmethod
    def lock(
        name: str, evaluation_id: str, *, etag: str = "", note: str = "", request_id: str | None = None
    ) -> Call[Baseline]:
        """Lock an evaluation as the named baseline; the former revision stays in the history.

        ``etag`` is that of the revision in force as you read it (`get`); without one the name is new. When the name has
        a revision, raises `InvalidInput` where ``etag`` is missing and `Aborted` where it is stale.
        """
        request = pb.LockBaselineRequest(
            request_id=new_request_id(request_id), name=name, evaluation_id=evaluation_id, note=note, etag=etag
        )
        return unary(Stub, lambda stub: stub.LockBaseline, request, Baseline)

    @one
    @staticmethod
    def get(name: str) -> Call[Baseline]:
        """The revision in force of a baseline."""
        return unary(Stub, lambda stub: stub.GetBaseline, pb.GetBaselineRequest(name=name), Baseline)

    @many
    @staticmethod
    def list(name: str = "", *, page_size: int = 0, limit: int | None = None) -> Pages[Baseline]:
        """The revision in force of every name; with a ``name``, that name's history."""
        request = pb.ListBaselinesRequest(name=name, page_size=page_size)
        return paged(
            Stub, lambda stub: stub.ListBaselines, request, lambda page, _: Baseline.each(page.baselines), limit=limit
        )


class Gate(Group[Mode]):
    """``client.gate``"""

    @one
    @staticmethod
    def decide(
        candidate_evaluation_id: str,
        *,
        baseline: str = "",
        baseline_evaluation_id: str = "",
        policy: str = "",
        request_id: str | None = None,
    ) -> Call[GateDecision]:
        """Decide whether a candidate may replace a baseline (by name, or an evaluation by id); stored for good.

        With neither, the policy's own baseline is meant; an empty ``policy`` is the built-in default.
        """
        request = pb.DecideGateRequest(
            request_id=new_request_id(request_id), candidate_evaluation_id=candidate_evaluation_id, policy=policy
        )
        if baseline_evaluation_id:
            request.baseline_evaluation_id = baseline_evaluation_id
        elif baseline:
            request.baseline = baseline
        return unary(Stub, lambda stub: stub.DecideGate, request, GateDecision)

    @one
    @staticmethod
    def create_policy(
        name: str,
        *,
        margin: float | None = None,
        alpha: float | None = None,
        min_coverage: float | None = None,
        min_effect: float | None = None,
        metric: str = "",
        lower_is_better: bool = False,
        slices: Sequence[SliceRule | pb.SliceRule | Mapping[str, Any]] = (),
        baseline: str = "",
        description: str = "",
        etag: str = "",
        request_id: str | None = None,
    ) -> Call[GatePolicy]:
        """Create a policy; the same name again, with the ``etag`` of its newest version (`policy`), makes its next one.

        ``slices`` are SliceRules or mappings such as ``{"dimension": "section", "value": "core", "tier": "critical"}``.
        """
        request = pb.CreateGatePolicyRequest(
            request_id=new_request_id(request_id),
            name=name,
            margin=margin,
            alpha=alpha,
            min_coverage=min_coverage,
            min_effect=min_effect,
            metric=metric,
            direction=pb.METRIC_DIRECTION_LOWER_IS_BETTER if lower_is_better else pb.METRIC_DIRECTION_HIGHER_IS_BETTER,
            slices=[to_message(pb.SliceRule, rule, f"slices[{index}]") for index, rule in enumerate(slices)],
            baseline=baseline,
            description=description,
            etag=etag,
        )
        return unary(Stub, lambda stub: stub.CreateGatePolicy, request, GatePolicy)

    @one
    @staticmethod
    def policy(id: str) -> Call[GatePolicy]:
        """One policy by id, or the newest version of a name."""
        return unary(Stub, lambda stub: stub.GetGatePolicy, pb.GetGatePolicyRequest(id=id), GatePolicy)

    @many
    @staticmethod
    def policies(*, page_size: int = 0, limit: int | None = None) -> Pages[GatePolicy]:
        """Every policy version."""
        request = pb.ListGatePoliciesRequest(page_size=page_size)
        return paged(
            Stub,
            lambda stub: stub.ListGatePolicies,
            request,
            lambda page, _: GatePolicy.each(page.policies),
            limit=limit,
        )

    @one
    @staticmethod
    def decision(id: str) -> Call[GateDecision]:
        """One stored decision."""
        return unary(Stub, lambda stub: stub.GetGateDecision, pb.GetGateDecisionRequest(id=id), GateDecision)

    @many
    @staticmethod
    def decisions(*, filter: str = "", page_size: int = 0, limit: int | None = None) -> Pages[GateDecision]:
        """Stored decisions; fields: id, verdict, policy_id, baseline_evaluation_id, candidate_evaluation_id, …"""
        request = pb.ListGateDecisionsRequest(page_size=page_size, filter=filter)
        return paged(
            Stub,
            lambda stub: stub.ListGateDecisions,
            request,
            lambda page, _: GateDecision.each(page.decisions),
            limit=limit,
        )
