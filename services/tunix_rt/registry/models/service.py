"""ModelService: models, aliases and promotions; `gates.service` has baselines, policies and decisions."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry.gates.service import GateServicer
from tunix_rt.registry.kernel.archive import archived_field
from tunix_rt.registry.kernel.calls import Context, caller, checked_id
from tunix_rt.registry.kernel.filters import FilterField, Kind
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.pages import Key, by_create_time, newest_first
from tunix_rt.registry.models import aliases, checks, rules, waivers
from tunix_rt.registry.models.messages import (
    alias_message,
    former_alias_message,
    model_message,
    promotion_message,
    waiver_message,
)
from tunix_rt.registry.models.tables import AliasRow, ModelVersionRow, PromotionRow, WaiverRow
from tunix_rt.rpc.auth import ANONYMOUS, current_principal
from tunix_rt.v1 import models_pb2 as pb

SERVICE: Final = pb.DESCRIPTOR.services_by_name["ModelService"].full_name

_MODELS: Final = Listing(
    pb.ListModelsResponse,
    ModelVersionRow,
    model_message,
    orders={
        **by_create_time(ModelVersionRow),
        # Names in order, the newest version of each first.
        "name": (
            Key(col(ModelVersionRow.name)),
            Key(col(ModelVersionRow.version), descending=True),
            Key(col(ModelVersionRow.id)),
        ),
    },
    fields={
        "id": FilterField(ModelVersionRow.id),
        "name": FilterField(ModelVersionRow.name),
        "version": FilterField(ModelVersionRow.version, Kind.INTEGER),
        "project": FilterField(ModelVersionRow.project),
        **archived_field(ModelVersionRow),
        "run_id": FilterField(ModelVersionRow.run_id),
        "digest": FilterField(ModelVersionRow.digest),
        "create_time": FilterField(ModelVersionRow.create_time, Kind.TIME),
        "tags": FilterField(ModelVersionRow.tags, Kind.TAGS),
    },
)
_ALIASES: Final = Listing(
    pb.ListAliasesResponse,
    AliasRow,
    alias_message,
    orders={"": (Key(col(AliasRow.model_name)), Key(col(AliasRow.alias)), Key(col(AliasRow.project)))},
)
_PROMOTIONS: Final = Listing(
    pb.ListPromotionsResponse,
    PromotionRow,
    promotion_message,
    orders={"": newest_first(PromotionRow)},
)
_WAIVERS: Final = Listing(
    pb.ListWaiversResponse,
    WaiverRow,
    waiver_message,
    orders={"": newest_first(WaiverRow)},
)


class ModelServicer(GateServicer):
    """Implements ``tunix_rt.v1.ModelService``."""

    async def RegisterModel(self, request: pb.RegisterModelRequest, context: Context) -> pb.ModelVersion:
        checks.check_register(request)
        actor = caller()
        return await self.mutate(
            request,
            pb.ModelVersion,
            lambda session: rules.register_reference(
                session, name=request.name, reference=request.reference, tags=dict(request.tags), actor=actor
            ),
        )

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.ModelVersion:
        checked_id(request.id)
        return await self.read(lambda session: model_message(rules.get_model(session, request.id)))

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        return await self.read(lambda session: _MODELS.answer(session, request))

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.Alias:
        checks.check_set_alias(request)
        principal = current_principal()
        # Where auth is off nobody has a permission, and everybody may do everything.
        may_waive = principal is ANONYMOUS or principal.allows("approve")
        return await self.mutate(
            request,
            pb.Alias,
            lambda session: aliases.set_alias(
                session, request, actor=principal.name, may_waive=may_waive, single_user=self.settings.one_person
            ),
        )

    async def GetAlias(self, request: pb.GetAliasRequest, context: Context) -> pb.Alias:
        at = checks.alias_instant(request)

        def read(session: Session) -> pb.Alias:
            row = aliases.get_alias(session, request.model_name, request.alias)
            if at is None:
                return alias_message(row)
            return former_alias_message(row, aliases.holder_at(session, request.model_name, request.alias, at))

        return await self.read(read)

    async def ListAliases(self, request: pb.ListAliasesRequest, context: Context) -> pb.ListAliasesResponse:
        statement = select(AliasRow)
        if request.model_name:
            statement = statement.where(col(AliasRow.model_name) == request.model_name)
        return await self.read(lambda session: _ALIASES.answer(session, request, statement, request.model_name))

    async def SetAliasPolicy(self, request: pb.SetAliasPolicyRequest, context: Context) -> pb.Alias:
        checks.check_set_alias_policy(request)
        actor = caller()
        return await self.mutate(
            request,
            pb.Alias,
            lambda session: aliases.set_policy(session, request, actor=actor, single_user=self.settings.one_person),
        )

    async def RequestWaiver(self, request: pb.RequestWaiverRequest, context: Context) -> pb.Waiver:
        checks.check_request_waiver(request)
        actor = caller()
        return await self.mutate(
            request, pb.Waiver, lambda session: waivers.request_waiver(session, request, actor=actor)
        )

    async def ListWaivers(self, request: pb.ListWaiversRequest, context: Context) -> pb.ListWaiversResponse:
        statement = select(WaiverRow)
        if request.model_name:
            statement = statement.where(col(WaiverRow.model_name) == request.model_name)
        if request.alias:
            statement = statement.where(col(WaiverRow.alias) == request.alias)
        return await self.read(
            lambda session: _WAIVERS.answer(session, request, statement, request.model_name, request.alias)
        )

    async def UnpinModel(self, request: pb.UnpinModelRequest, context: Context) -> pb.ModelVersion:
        checks.check_unpin(request)
        actor = caller()
        return await self.mutate(
            request,
            pb.ModelVersion,
            lambda session: rules.unpin_digest(session, request.id, reason=request.reason, actor=actor),
        )

    async def ListPromotions(self, request: pb.ListPromotionsRequest, context: Context) -> pb.ListPromotionsResponse:
        statement = select(PromotionRow)
        if request.model_name:
            statement = statement.where(col(PromotionRow.model_name) == request.model_name)
        if request.alias:
            statement = statement.where(col(PromotionRow.alias) == request.alias)
        return await self.read(
            lambda session: _PROMOTIONS.answer(session, request, statement, request.model_name, request.alias)
        )
