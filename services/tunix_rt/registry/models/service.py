"""ModelService over gRPC: models, aliases and promotions; `gates` has baselines, policies and decisions."""

from __future__ import annotations

from typing import Any, Final

import grpc
from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry.gates.service import GateServicer
from tunix_rt.registry.kernel.calls import caller
from tunix_rt.registry.kernel.fields import require_id
from tunix_rt.registry.kernel.filters import FilterField, Kind, compile_filter
from tunix_rt.registry.kernel.idempotency import answer_once
from tunix_rt.registry.kernel.pages import Key, choose_order, context_digest, page
from tunix_rt.registry.models import aliases
from tunix_rt.registry.models import checks as validation
from tunix_rt.registry.models import rules as models
from tunix_rt.registry.models.aliases import Move
from tunix_rt.registry.models.messages import alias_message, former_alias_message, model_message, promotion_message
from tunix_rt.registry.models.tables import AliasRow, ModelVersionRow, PromotionRow
from tunix_rt.rpc.auth import ANONYMOUS, current_principal
from tunix_rt.v1 import models_pb2 as pb

SERVICE: Final = pb.DESCRIPTOR.services_by_name["ModelService"].full_name

_FILTER: Final = {
    "id": FilterField(ModelVersionRow.id),
    "name": FilterField(ModelVersionRow.name),
    "version": FilterField(ModelVersionRow.version, Kind.INTEGER),
    "run_id": FilterField(ModelVersionRow.run_id),
    "digest": FilterField(ModelVersionRow.digest),
    "create_time": FilterField(ModelVersionRow.create_time, Kind.TIME),
    "tags": FilterField(ModelVersionRow.tags, Kind.TAGS),
}
_ID = col(ModelVersionRow.id)
_NAME = (Key(col(ModelVersionRow.name)), Key(col(ModelVersionRow.version), descending=True))
_ORDERS: Final = {
    "create_time desc": (Key(col(ModelVersionRow.create_time), descending=True), Key(_ID, descending=True)),
    "create_time": (Key(col(ModelVersionRow.create_time)), Key(_ID)),
    # Names in order, the newest version of each first.
    "name": _NAME,
}


class ModelServicer(GateServicer):
    """The registry's ModelService."""

    async def RegisterModel(
        self, request: pb.RegisterModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ModelVersion:
        validation.check_register(request)
        actor = caller()

        def work(session: Session) -> pb.ModelVersion:
            def answer() -> pb.ModelVersion:
                row = models.register_reference(
                    session, name=request.name, reference=request.reference, tags=dict(request.tags), actor=actor
                )
                return model_message(row)

            return answer_once(session, "RegisterModel", request, answer, pb.ModelVersion)

        return await self._database.run_write(work)

    async def GetModel(
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ModelVersion:
        require_id(request.id)
        return await self._database.run_read(lambda s: model_message(models.get_model(s, request.id)))

    async def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListModelsResponse:
        def work(session: Session) -> pb.ListModelsResponse:
            rows, token = page(
                session,
                select(ModelVersionRow).where(compile_filter(request.filter, _FILTER)),
                choose_order(request.order_by, _ORDERS),
                request.page_size,
                request.page_token,
                context_digest("models", request.filter, request.order_by),
            )
            return pb.ListModelsResponse(models=map(model_message, rows), next_page_token=token)

        return await self._database.run_read(work)

    async def SetAlias(self, request: pb.SetAliasRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.Alias:
        validation.check_set_alias(request)
        principal = current_principal()
        move = Move(
            model_name=request.model_name,
            alias=request.alias,
            model_id=request.model_id,
            etag=request.etag,
            gate_decision_id=request.gate_decision_id,
            waiver_reason=request.waiver_reason,
            actor=principal.name,
            # Where auth is off nobody has a role, and everybody may do everything.
            may_waive=principal is ANONYMOUS or principal.allows("approver"),
        )

        def work(session: Session) -> pb.Alias:
            return answer_once(
                session, "SetAlias", request, lambda: alias_message(aliases.set_alias(session, move)), pb.Alias
            )

        return await self._database.run_write(work)

    async def GetAlias(self, request: pb.GetAliasRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.Alias:
        at = validation.alias_instant(request)

        def work(session: Session) -> pb.Alias:
            row = aliases.get_alias(session, request.model_name, request.alias)
            if at is None:
                return alias_message(row)
            return former_alias_message(row, aliases.holder_at(session, request.model_name, request.alias, at))

        return await self._database.run_read(work)

    async def ListAliases(
        self, request: pb.ListAliasesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListAliasesResponse:
        def work(session: Session) -> pb.ListAliasesResponse:
            statement = select(AliasRow)
            if request.model_name:
                statement = statement.where(col(AliasRow.model_name) == request.model_name)
            rows, token = page(
                session,
                statement,
                (Key(col(AliasRow.model_name)), Key(col(AliasRow.alias))),
                request.page_size,
                request.page_token,
                context_digest("aliases", request.model_name),
            )
            return pb.ListAliasesResponse(aliases=map(alias_message, rows), next_page_token=token)

        return await self._database.run_read(work)

    async def SetAliasPolicy(
        self, request: pb.SetAliasPolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Alias:
        validation.check_set_alias_policy(request)

        def work(session: Session) -> pb.Alias:
            def answer() -> pb.Alias:
                row = aliases.set_policy(
                    session,
                    model_name=request.model_name,
                    alias=request.alias,
                    policy=request.gate_policy_id,
                    given_etag=request.etag,
                )
                return alias_message(row)

            return answer_once(session, "SetAliasPolicy", request, answer, pb.Alias)

        return await self._database.run_write(work)

    async def ListPromotions(
        self, request: pb.ListPromotionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListPromotionsResponse:
        def work(session: Session) -> pb.ListPromotionsResponse:
            statement = select(PromotionRow)
            if request.model_name:
                statement = statement.where(col(PromotionRow.model_name) == request.model_name)
            if request.alias:
                statement = statement.where(col(PromotionRow.alias) == request.alias)
            rows, token = page(
                session,
                statement,
                (Key(col(PromotionRow.create_time), descending=True), Key(col(PromotionRow.id), descending=True)),
                request.page_size,
                request.page_token,
                context_digest("promotions", request.model_name, request.alias),
            )
            return pb.ListPromotionsResponse(promotions=map(promotion_message, rows), next_page_token=token)

        return await self._database.run_read(work)
