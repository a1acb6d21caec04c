"""EvalSetService over gRPC."""

from __future__ import annotations

from typing import Any, Final

import grpc
from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.registry.evalsets import checks as validation
from tunix_rt.registry.evalsets import rules as evalsets
from tunix_rt.registry.evalsets.messages import ANSWER_TYPES, DIFFICULTIES, SECTIONS, item_message
from tunix_rt.registry.evalsets.tables import EvalSetItemRow, EvalSetRow
from tunix_rt.registry.kernel.calls import caller
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.registry.kernel.fields import require_id
from tunix_rt.registry.kernel.filters import FilterField, Kind, compile_filter
from tunix_rt.registry.kernel.idempotency import answer_once
from tunix_rt.registry.kernel.pages import Key, choose_order, context_digest, page
from tunix_rt.v1 import evalsets_pb2 as pb
from tunix_rt.v1 import evalsets_pb2_grpc as pb_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["EvalSetService"].full_name

_FILTER: Final = {
    "id": FilterField(EvalSetRow.id),
    "key": FilterField(EvalSetRow.key),
    "digest": FilterField(EvalSetRow.digest),
    "item_count": FilterField(EvalSetRow.item_count, Kind.INTEGER),
    "create_time": FilterField(EvalSetRow.create_time, Kind.TIME),
    "tags": FilterField(EvalSetRow.tags, Kind.TAGS),
}
_ITEM_FILTER: Final = {
    "item_id": FilterField(EvalSetItemRow.item_id),
    "section": FilterField(EvalSetItemRow.section, Kind.ENUM, frozenset(SECTIONS)),
    "category": FilterField(EvalSetItemRow.category),
    "difficulty": FilterField(EvalSetItemRow.difficulty, Kind.ENUM, frozenset(DIFFICULTIES)),
    "answer_type": FilterField(EvalSetItemRow.answer_type, Kind.ENUM, frozenset(ANSWER_TYPES)),
}
_ID = col(EvalSetRow.id)
_ORDERS: Final = {
    "create_time desc": (Key(col(EvalSetRow.create_time), descending=True), Key(_ID, descending=True)),
    "create_time": (Key(col(EvalSetRow.create_time)), Key(_ID)),
    "key": (Key(col(EvalSetRow.key)), Key(_ID)),
    "key desc": (Key(col(EvalSetRow.key), descending=True), Key(_ID)),
}


class EvalSetServicer(pb_grpc.EvalSetServiceServicer):
    """The registry's EvalSetService."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._database = dependencies.database

    async def CreateEvalSet(
        self, request: pb.CreateEvalSetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EvalSet:
        new = await self._database.run(lambda: validation.new_evalset(request))
        actor = caller()

        def work(session: Session) -> pb.EvalSet:
            def answer() -> pb.EvalSet:
                row = evalsets.create_evalset(
                    session,
                    key=new.key,
                    evalset=new.evalset,
                    description=new.description,
                    tags=new.tags,
                    actor=actor,
                )
                return evalsets.described(session, [row])[0]

            return answer_once(session, "CreateEvalSet", request, answer, pb.EvalSet)

        return await self._database.run_write(work)

    async def GetEvalSet(
        self, request: pb.GetEvalSetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EvalSet:
        require_id(request.id)
        return await self._database.run_read(lambda s: evalsets.described(s, [evalsets.get_evalset(s, request.id)])[0])

    async def ListEvalSets(
        self, request: pb.ListEvalSetsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListEvalSetsResponse:
        def work(session: Session) -> pb.ListEvalSetsResponse:
            rows, token = page(
                session,
                select(EvalSetRow).where(compile_filter(request.filter, _FILTER)),
                choose_order(request.order_by, _ORDERS),
                request.page_size,
                request.page_token,
                context_digest("evalsets", request.filter, request.order_by),
            )
            return pb.ListEvalSetsResponse(evalsets=evalsets.described(session, rows), next_page_token=token)

        return await self._database.run_read(work)

    async def ListEvalSetItems(
        self, request: pb.ListEvalSetItemsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListEvalSetItemsResponse:
        require_id(request.evalset_id, "evalset_id")

        def work(session: Session) -> pb.ListEvalSetItemsResponse:
            evalset = evalsets.get_evalset(session, request.evalset_id)
            rows, token = page(
                session,
                select(EvalSetItemRow).where(
                    col(EvalSetItemRow.evalset_id) == evalset.id, compile_filter(request.filter, _ITEM_FILTER)
                ),
                (Key(col(EvalSetItemRow.position)),),
                request.page_size,
                request.page_token,
                context_digest("evalset items", evalset.id, request.filter),
            )
            return pb.ListEvalSetItemsResponse(items=map(item_message, rows), next_page_token=token)

        return await self._database.run_read(work)
