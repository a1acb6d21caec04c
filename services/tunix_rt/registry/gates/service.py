"""The part of ModelService about baselines, gate policies and gate decisions."""

from __future__ import annotations

from typing import Any, Final

import grpc
from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry.gates import baselines
from tunix_rt.registry.gates import rules as gates
from tunix_rt.registry.gates.tables import GateDecisionRow, GatePolicyRow
from tunix_rt.registry.kernel.calls import caller
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.registry.kernel.fields import require_id
from tunix_rt.registry.kernel.filters import FilterField, Kind, compile_filter
from tunix_rt.registry.kernel.idempotency import answer_once
from tunix_rt.registry.kernel.pages import Key, context_digest, page
from tunix_rt.registry.models import checks as validation
from tunix_rt.registry.models.messages import GATE_VERDICTS, baseline_message, decision_message, policy_message
from tunix_rt.registry.models.tables import BaselineRow
from tunix_rt.v1 import models_pb2 as pb
from tunix_rt.v1 import models_pb2_grpc as pb_grpc

_FILTER: Final = {
    "id": FilterField(GateDecisionRow.id),
    "verdict": FilterField(GateDecisionRow.verdict, Kind.ENUM, frozenset(GATE_VERDICTS)),
    "policy_id": FilterField(GateDecisionRow.policy_id),
    "baseline_evaluation_id": FilterField(GateDecisionRow.baseline_evaluation_id),
    "candidate_evaluation_id": FilterField(GateDecisionRow.candidate_evaluation_id),
    "create_time": FilterField(GateDecisionRow.create_time, Kind.TIME),
}


class GateServicer(pb_grpc.ModelServiceServicer):
    """Base of the ModelService that serves baselines and gates."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._database = dependencies.database

    async def LockBaseline(
        self, request: pb.LockBaselineRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Baseline:
        validation.check_lock_baseline(request)
        actor = caller()

        def work(session: Session) -> pb.Baseline:
            def answer() -> pb.Baseline:
                row = baselines.lock_baseline(
                    session,
                    name=request.name,
                    evaluation_id=request.evaluation_id,
                    note=request.note,
                    given_etag=request.etag,
                    actor=actor,
                )
                return baseline_message(row)

            return answer_once(session, "LockBaseline", request, answer, pb.Baseline)

        return await self._database.run_write(work)

    async def GetBaseline(
        self, request: pb.GetBaselineRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Baseline:
        require_id(request.name, "name")
        return await self._database.run_read(lambda s: baseline_message(baselines.get_baseline(s, request.name)))

    async def ListBaselines(
        self, request: pb.ListBaselinesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListBaselinesResponse:
        def work(session: Session) -> pb.ListBaselinesResponse:
            rows, token = page(
                session,
                baselines.history_of(request.name) if request.name else baselines.baselines_in_force(),
                (Key(col(BaselineRow.name)), Key(col(BaselineRow.revision), descending=True)),
                request.page_size,
                request.page_token,
                context_digest("baselines", request.name),
            )
            return pb.ListBaselinesResponse(baselines=map(baseline_message, rows), next_page_token=token)

        return await self._database.run_read(work)

    async def CreateGatePolicy(
        self, request: pb.CreateGatePolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GatePolicy:
        spec = validation.policy_spec(request)
        actor = caller()

        def work(session: Session) -> pb.GatePolicy:
            def answer() -> pb.GatePolicy:
                return policy_message(gates.create_policy(session, spec, actor=actor))

            return answer_once(session, "CreateGatePolicy", request, answer, pb.GatePolicy)

        return await self._database.run_write(work)

    async def GetGatePolicy(
        self, request: pb.GetGatePolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GatePolicy:
        require_id(request.id)
        return await self._database.run_read(lambda s: policy_message(gates.get_policy(s, request.id)))

    async def ListGatePolicies(
        self, request: pb.ListGatePoliciesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListGatePoliciesResponse:
        def work(session: Session) -> pb.ListGatePoliciesResponse:
            rows, token = page(
                session,
                select(GatePolicyRow),
                (Key(col(GatePolicyRow.name)), Key(col(GatePolicyRow.version), descending=True)),
                request.page_size,
                request.page_token,
                context_digest("gate policies"),
            )
            return pb.ListGatePoliciesResponse(policies=map(policy_message, rows), next_page_token=token)

        return await self._database.run_read(work)

    async def DecideGate(
        self, request: pb.DecideGateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GateDecision:
        validation.check_decide(request)
        actor = caller()

        def work(session: Session) -> pb.GateDecision:
            def answer() -> pb.GateDecision:
                row = gates.decide(
                    session,
                    candidate_id=request.candidate_evaluation_id,
                    baseline_evaluation_id=request.baseline_evaluation_id,
                    baseline=request.baseline,
                    policy=request.policy,
                    actor=actor,
                )
                return decision_message(row)

            return answer_once(session, "DecideGate", request, answer, pb.GateDecision)

        return await self._database.run_write(work)

    async def GetGateDecision(
        self, request: pb.GetGateDecisionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GateDecision:
        require_id(request.id)
        return await self._database.run_read(lambda s: decision_message(gates.get_decision(s, request.id)))

    async def ListGateDecisions(
        self, request: pb.ListGateDecisionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListGateDecisionsResponse:
        def work(session: Session) -> pb.ListGateDecisionsResponse:
            rows, token = page(
                session,
                select(GateDecisionRow).where(compile_filter(request.filter, _FILTER)),
                (Key(col(GateDecisionRow.create_time), descending=True), Key(col(GateDecisionRow.id), descending=True)),
                request.page_size,
                request.page_token,
                context_digest("gate decisions", request.filter),
            )
            return pb.ListGateDecisionsResponse(decisions=map(decision_message, rows), next_page_token=token)

        return await self._database.run_read(work)
