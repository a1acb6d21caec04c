"""The part of ModelService about baselines, gate policies and gate decisions."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry.gates import baselines, rules
from tunix_rt.registry.gates.tables import GateDecisionRow, GatePolicyRow
from tunix_rt.registry.kernel.calls import Context, Servicer, caller, checked_id
from tunix_rt.registry.kernel.filters import FilterField, Kind
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.pages import Key, newest_first
from tunix_rt.registry.kernel.signing import SIGNER, Signer, signing_key_message
from tunix_rt.registry.kernel.signing_tables import SigningKeyRow
from tunix_rt.registry.models import checks
from tunix_rt.registry.models.messages import GATE_VERDICTS, baseline_message, decision_message, policy_message
from tunix_rt.registry.models.tables import BaselineRow
from tunix_rt.v1 import models_pb2 as pb
from tunix_rt.v1 import models_pb2_grpc

_BASELINES: Final = Listing(
    pb.ListBaselinesResponse,
    BaselineRow,
    baseline_message,
    orders={
        "": (Key(col(BaselineRow.name)), Key(col(BaselineRow.revision), descending=True), Key(col(BaselineRow.id)))
    },
)
_POLICIES: Final = Listing(
    pb.ListGatePoliciesResponse,
    GatePolicyRow,
    policy_message,
    orders={
        "": (Key(col(GatePolicyRow.name)), Key(col(GatePolicyRow.version), descending=True), Key(col(GatePolicyRow.id)))
    },
)
_DECISIONS: Final = Listing(
    pb.ListGateDecisionsResponse,
    GateDecisionRow,
    decision_message,
    orders={"": newest_first(GateDecisionRow)},
    fields={
        "id": FilterField(GateDecisionRow.id),
        "verdict": FilterField(GateDecisionRow.verdict, Kind.ENUM, frozenset(GATE_VERDICTS)),
        "project": FilterField(GateDecisionRow.project),
        "policy_id": FilterField(GateDecisionRow.policy_id),
        "baseline_evaluation_id": FilterField(GateDecisionRow.baseline_evaluation_id),
        "candidate_evaluation_id": FilterField(GateDecisionRow.candidate_evaluation_id),
        "create_time": FilterField(GateDecisionRow.create_time, Kind.TIME),
    },
)


_SIGNING_KEYS: Final = Listing(
    pb.ListSigningKeysResponse,
    SigningKeyRow,
    signing_key_message,
    orders={"": newest_first(SigningKeyRow)},
)


class GateServicer(Servicer, models_pb2_grpc.ModelServiceServicer):
    """Base of the ModelService: baselines and gates."""

    async def LockBaseline(self, request: pb.LockBaselineRequest, context: Context) -> pb.Baseline:
        checks.check_lock_baseline(request)
        actor = caller()
        return await self.mutate(
            request,
            pb.Baseline,
            lambda session: baselines.lock_baseline(
                session,
                name=request.name,
                evaluation_id=request.evaluation_id,
                note=request.note,
                given_etag=request.etag,
                actor=actor,
            ),
        )

    async def GetBaseline(self, request: pb.GetBaselineRequest, context: Context) -> pb.Baseline:
        checked_id(request.name, "name")
        return await self.read(lambda session: baseline_message(baselines.get_baseline(session, request.name)))

    async def ListBaselines(self, request: pb.ListBaselinesRequest, context: Context) -> pb.ListBaselinesResponse:
        found = baselines.history_of(request.name) if request.name else baselines.baselines_in_force()
        return await self.read(lambda session: _BASELINES.answer(session, request, found, request.name))

    async def CreateGatePolicy(self, request: pb.CreateGatePolicyRequest, context: Context) -> pb.GatePolicy:
        spec = checks.policy_spec(request)
        actor = caller()
        return await self.mutate(
            request,
            pb.GatePolicy,
            lambda session: rules.create_policy(session, spec, actor=actor, given_etag=request.etag),
        )

    async def GetGatePolicy(self, request: pb.GetGatePolicyRequest, context: Context) -> pb.GatePolicy:
        checked_id(request.id)
        return await self.read(lambda session: policy_message(rules.get_policy(session, request.id)))

    async def ListGatePolicies(
        self, request: pb.ListGatePoliciesRequest, context: Context
    ) -> pb.ListGatePoliciesResponse:
        return await self.read(lambda session: _POLICIES.answer(session, request))

    async def DecideGate(self, request: pb.DecideGateRequest, context: Context) -> pb.GateDecision:
        checks.check_decide(request)
        actor = caller()
        return await self.mutate(
            request,
            pb.GateDecision,
            lambda session: rules.decide(
                session,
                candidate_id=request.candidate_evaluation_id,
                baseline_evaluation_id=request.baseline_evaluation_id,
                baseline=request.baseline,
                policy=request.policy,
                actor=actor,
            ),
        )

    async def GetGateDecision(self, request: pb.GetGateDecisionRequest, context: Context) -> pb.GateDecision:
        checked_id(request.id)
        return await self.read(lambda session: decision_message(rules.get_decision(session, request.id)))

    async def ListGateDecisions(
        self, request: pb.ListGateDecisionsRequest, context: Context
    ) -> pb.ListGateDecisionsResponse:
        return await self.read(lambda session: _DECISIONS.answer(session, request))

    async def ListSigningKeys(self, request: pb.ListSigningKeysRequest, context: Context) -> pb.ListSigningKeysResponse:
        def read(session: Session) -> pb.ListSigningKeysResponse:
            found = _SIGNING_KEYS.answer(session, request, select(SigningKeyRow))
            signer: Signer | None = session.info.get(SIGNER)
            for key in found.keys:
                key.current = signer is not None and key.id == signer.key_id
            return found

        return await self.read(read)
