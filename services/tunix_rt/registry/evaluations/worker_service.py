"""The part of EvaluationService that evaluators call."""

from __future__ import annotations

from typing import Any

import grpc
from sqlalchemy.orm import Session

from tunix_rt.registry.evaluations import checks as validation
from tunix_rt.registry.evaluations import items
from tunix_rt.registry.evaluations.messages import item_result_row
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.calls import Dependencies
from tunix_rt.v1 import evaluations_pb2 as pb
from tunix_rt.v1 import evaluations_pb2_grpc as pb_grpc


class EvaluationWorkerServicer(pb_grpc.EvaluationServiceServicer):
    """Base of the EvaluationService that serves workers; every write is fenced by the caller's lease."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._database = dependencies.database

    async def RecordItems(
        self, request: pb.RecordItemsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RecordItemsResponse:
        lease = validation.recorded(request)

        def work(session: Session) -> pb.RecordItemsResponse:
            row = leases.check(session, EvaluationRow, lease)
            results = [item_result_row(each) for each in request.results]
            return pb.RecordItemsResponse(stored=items.record_items(session, row, results))

        return await self._database.run_write(work)
