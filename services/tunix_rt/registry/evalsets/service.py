"""EvalSetService."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry import quotas
from tunix_rt.registry.evalsets import checks, rules
from tunix_rt.registry.evalsets.messages import ANSWER_TYPES, DIFFICULTIES, SECTIONS, item_message
from tunix_rt.registry.evalsets.tables import EvalSetItemRow, EvalSetRow
from tunix_rt.registry.kernel.archive import archived_field
from tunix_rt.registry.kernel.calls import Context, Servicer, caller, checked_id
from tunix_rt.registry.kernel.filters import FilterField, Kind
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.pages import Key, by_create_time
from tunix_rt.v1 import evalsets_pb2 as pb
from tunix_rt.v1 import evalsets_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["EvalSetService"].full_name

_ID = col(EvalSetRow.id)
_EVALSETS: Final = Listing(
    pb.ListEvalSetsResponse,
    EvalSetRow,
    orders={
        **by_create_time(EvalSetRow),
        "key": (Key(col(EvalSetRow.key)), Key(_ID)),
        "key desc": (Key(col(EvalSetRow.key), descending=True), Key(_ID)),
    },
    fields={
        "id": FilterField(EvalSetRow.id),
        "key": FilterField(EvalSetRow.key),
        "digest": FilterField(EvalSetRow.digest),
        "project": FilterField(EvalSetRow.project),
        **archived_field(EvalSetRow),
        "item_count": FilterField(EvalSetRow.item_count, Kind.INTEGER),
        "create_time": FilterField(EvalSetRow.create_time, Kind.TIME),
        "tags": FilterField(EvalSetRow.tags, Kind.TAGS),
    },
    encode_all=rules.described,
)
_ITEMS: Final = Listing(
    pb.ListEvalSetItemsResponse,
    EvalSetItemRow,
    item_message,
    orders={"": (Key(col(EvalSetItemRow.position)),)},
    fields={
        "item_id": FilterField(EvalSetItemRow.item_id),
        "section": FilterField(EvalSetItemRow.section, Kind.ENUM, frozenset(SECTIONS)),
        "category": FilterField(EvalSetItemRow.category),
        "difficulty": FilterField(EvalSetItemRow.difficulty, Kind.ENUM, frozenset(DIFFICULTIES)),
        "answer_type": FilterField(EvalSetItemRow.answer_type, Kind.ENUM, frozenset(ANSWER_TYPES)),
    },
)


class EvalSetServicer(Servicer, evalsets_pb2_grpc.EvalSetServiceServicer):
    """Implements ``tunix_rt.v1.EvalSetService``."""

    async def CreateEvalSet(self, request: pb.CreateEvalSetRequest, context: Context) -> pb.EvalSet:
        evalset = await self.database.run(lambda: checks.read_evalset(request))
        actor = caller()

        def create(session: Session) -> EvalSetRow:
            row = rules.create_evalset(
                session,
                key=request.key,
                evalset=evalset,
                description=request.description,
                tags=request.tags,
                actor=actor,
            )
            quotas.check_stored_bytes(session, self.settings)
            return row

        return await self.mutate(request, pb.EvalSet, create)

    async def GetEvalSet(self, request: pb.GetEvalSetRequest, context: Context) -> pb.EvalSet:
        checked_id(request.id)
        return await self.read(lambda session: rules.described(session, [rules.get_evalset(session, request.id)])[0])

    async def ListEvalSets(self, request: pb.ListEvalSetsRequest, context: Context) -> pb.ListEvalSetsResponse:
        return await self.read(lambda session: _EVALSETS.answer(session, request))

    async def ListEvalSetItems(
        self, request: pb.ListEvalSetItemsRequest, context: Context
    ) -> pb.ListEvalSetItemsResponse:
        checked_id(request.evalset_id, "evalset_id")

        def read(session: Session) -> pb.ListEvalSetItemsResponse:
            evalset = rules.get_evalset(session, request.evalset_id)
            statement = select(EvalSetItemRow).where(col(EvalSetItemRow.evalset_id) == evalset.id)
            return _ITEMS.answer(session, request, statement, evalset.id)

        return await self.read(read)
