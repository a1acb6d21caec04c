"""Methods on model versions, aliases, baselines and the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tunix_rt.client.arguments import to_message
from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import Call, Flow, One, Pages, Steps, new_request_id, paged, unary
from tunix_rt.errors import NotFound
from tunix_rt.v1 import models_pb2 as pb
from tunix_rt.v1.models_pb2_grpc import ModelServiceStub as Stub


class Models(Group[Mode]):
    """``client.models``"""

    @one
    @staticmethod
    def register(
        name: str, reference: str, *, tags: Mapping[str, str] | None = None, request_id: str | None = None
    ) -> Call[pb.ModelVersion]:
        """Register a model that no run here produced: ``hf://``, ``file://``, ``gguf://`` or ``pkg://``."""
        request = pb.RegisterModelRequest(
            request_id=new_request_id(request_id), name=name, reference=reference, tags=tags
        )
        return unary(Stub, lambda stub: stub.RegisterModel, request, deadline_seconds=300.0)

    @one
    @staticmethod
    def get(id: str) -> Call[pb.ModelVersion]:
        """One model version by id, ``name@alias`` or ``name/version``."""
        return unary(Stub, lambda stub: stub.GetModel, pb.GetModelRequest(id=id))

    @many
    @staticmethod
    def list(
        *, filter: str = "", order_by: str = "", page_size: int = 0, limit: int | None = None
    ) -> Pages[pb.ModelVersion]:
        """Model versions; fields: id, name, version, run_id, digest, create_time, tags.NAME."""
        request = pb.ListModelsRequest(page_size=page_size, filter=filter, order_by=order_by)
        return paged(Stub, lambda stub: stub.ListModels, request, lambda page: page.models, limit=limit)

    @many
    @staticmethod
    def aliases(model_name: str = "", *, page_size: int = 0, limit: int | None = None) -> Pages[pb.Alias]:
        """The aliases of a model name ("": of every one) and what they point to."""
        request = pb.ListAliasesRequest(model_name=model_name, page_size=page_size)
        return paged(Stub, lambda stub: stub.ListAliases, request, lambda page: page.aliases, limit=limit)

    @one
    @staticmethod
    def alias(model_name: str, alias: str, *, at: datetime | None = None) -> Call[pb.Alias]:
        """One alias and who holds it, or held it at ``at`` (UTC where it has no time zone).

        Raises `NotFound` where there is none, or was none yet.
        """
        request = pb.GetAliasRequest(model_name=model_name, alias=alias)
        if at is not None:
            request.at.FromDatetime(at)
        return unary(Stub, lambda stub: stub.GetAlias, request)

    @one
    @staticmethod
    def promote(
        model_name: str,
        alias: str,
        model_id: str,
        *,
        gate_decision_id: str = "",
        waiver_reason: str = "",
        etag: str | None = None,
        request_id: str | None = None,
    ) -> Flow[pb.Alias]:
        """Point an alias at a model version. A guarded alias needs a fresh PASS or, from an approver, a waiver.

        Without ``etag`` the alias as it is now is replaced; with one, only if nobody moved it since (`Aborted`).
        """
        call_id = new_request_id(request_id)

        def steps() -> Steps[pb.Alias]:
            current = etag
            if current is None:
                current = yield from _etag_or_empty(Models.alias(model_name, alias))
            request = pb.SetAliasRequest(
                request_id=call_id,
                model_name=model_name,
                alias=alias,
                model_id=model_id,
                etag=current,
                gate_decision_id=gate_decision_id,
                waiver_reason=waiver_reason,
            )
            moved: pb.Alias = yield unary(Stub, lambda stub: stub.SetAlias, request)
            return moved

        return Flow(steps)

    @one
    @staticmethod
    def guard(
        model_name: str, alias: str, gate_policy_id: str, *, etag: str | None = None, request_id: str | None = None
    ) -> Flow[pb.Alias]:
        """Attach a gate policy to an alias; an empty policy id detaches it."""
        call_id = new_request_id(request_id)

        def steps() -> Steps[pb.Alias]:
            current = etag
            if current is None:
                current = yield from _etag_or_empty(Models.alias(model_name, alias))
            request = pb.SetAliasPolicyRequest(
                request_id=call_id, model_name=model_name, alias=alias, gate_policy_id=gate_policy_id, etag=current
            )
            guarded: pb.Alias = yield unary(Stub, lambda stub: stub.SetAliasPolicy, request)
            return guarded

        return Flow(steps)

    @many
    @staticmethod
    def promotions(
        model_name: str, alias: str = "", *, page_size: int = 0, limit: int | None = None
    ) -> Pages[pb.Promotion]:
        """Every move of the model's aliases; this history cannot be rewritten."""
        request = pb.ListPromotionsRequest(model_name=model_name, alias=alias, page_size=page_size)
        return paged(Stub, lambda stub: stub.ListPromotions, request, lambda page: page.promotions, limit=limit)


class Baselines(Group[Mode]):
    """``client.baselines``"""

    @one
    @staticmethod
    def lock(
        name: str, evaluation_id: str, *, note: str = "", etag: str | None = None, request_id: str | None = None
    ) -> Flow[pb.Baseline]:
        """Lock an evaluation as the named baseline. Without ``etag`` the revision in force now is replaced."""
        call_id = new_request_id(request_id)

        def steps() -> Steps[pb.Baseline]:
            current = etag
            if current is None:
                current = yield from _etag_or_empty(Baselines.get(name))
            request = pb.LockBaselineRequest(
                request_id=call_id, name=name, evaluation_id=evaluation_id, note=note, etag=current
            )
            locked: pb.Baseline = yield unary(Stub, lambda stub: stub.LockBaseline, request)
            return locked

        return Flow(steps)

    @one
    @staticmethod
    def get(name: str) -> Call[pb.Baseline]:
        """The revision in force of a baseline."""
        return unary(Stub, lambda stub: stub.GetBaseline, pb.GetBaselineRequest(name=name))

    @many
    @staticmethod
    def list(name: str = "", *, page_size: int = 0, limit: int | None = None) -> Pages[pb.Baseline]:
        """The revision in force of every name; with a ``name``, that name's history."""
        request = pb.ListBaselinesRequest(name=name, page_size=page_size)
        return paged(Stub, lambda stub: stub.ListBaselines, request, lambda page: page.baselines, limit=limit)


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
    ) -> Call[pb.GateDecision]:
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
        return unary(Stub, lambda stub: stub.DecideGate, request)

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
        slices: Sequence[pb.SliceRule | Mapping[str, Any]] = (),
        baseline: str = "",
        description: str = "",
        request_id: str | None = None,
    ) -> Call[pb.GatePolicy]:
        """Create a policy; the same name again makes its next version.

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
        )
        return unary(Stub, lambda stub: stub.CreateGatePolicy, request)

    @one
    @staticmethod
    def policy(id: str) -> Call[pb.GatePolicy]:
        """One policy by id, or the newest version of a name."""
        return unary(Stub, lambda stub: stub.GetGatePolicy, pb.GetGatePolicyRequest(id=id))

    @many
    @staticmethod
    def policies(*, page_size: int = 0, limit: int | None = None) -> Pages[pb.GatePolicy]:
        """Every policy version."""
        request = pb.ListGatePoliciesRequest(page_size=page_size)
        return paged(Stub, lambda stub: stub.ListGatePolicies, request, lambda page: page.policies, limit=limit)

    @one
    @staticmethod
    def decision(id: str) -> Call[pb.GateDecision]:
        """One stored decision."""
        return unary(Stub, lambda stub: stub.GetGateDecision, pb.GetGateDecisionRequest(id=id))

    @many
    @staticmethod
    def decisions(*, filter: str = "", page_size: int = 0, limit: int | None = None) -> Pages[pb.GateDecision]:
        """Stored decisions; fields: id, verdict, policy_id, baseline_evaluation_id, candidate_evaluation_id, …"""
        request = pb.ListGateDecisionsRequest(page_size=page_size, filter=filter)
        return paged(Stub, lambda stub: stub.ListGateDecisions, request, lambda page: page.decisions, limit=limit)


def _etag_or_empty(read: One[pb.Alias] | One[pb.Baseline]) -> Steps[str]:
    """The etag of what ``read`` finds; empty where there is nothing yet."""
    try:
        found: pb.Alias | pb.Baseline = yield read
    except NotFound:
        return ""
    return found.etag
