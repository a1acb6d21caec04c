"""Methods on evalset versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import Call, Pages, new_request_id, paged, unary
from tunix_rt.client.shipped import evalset_path
from tunix_rt.v1 import evalsets_pb2 as pb
from tunix_rt.v1.evalsets_pb2_grpc import EvalSetServiceStub as Stub


class EvalSets(Group[Mode]):
    """``client.evalsets``"""

    @one
    @staticmethod
    def create(
        path: Path | str,
        *,
        key: str = "",
        description: str = "",
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> Call[pb.EvalSet]:
        """Register an evalset: a JSONL file, or the key of one that ships. Its key is the file's stem unless given."""
        source = evalset_path(path)
        return EvalSets.create_from_bytes(
            source.read_bytes(), key=key or source.stem, description=description, tags=tags, request_id=request_id
        )

    @staticmethod
    def create_from_bytes(
        jsonl: bytes,
        *,
        key: str,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> Call[pb.EvalSet]:
        """The operation behind `create`, for JSONL that is not in a file."""
        request = pb.CreateEvalSetRequest(
            request_id=new_request_id(request_id), key=key, jsonl=jsonl, description=description, tags=tags
        )
        return unary(Stub, lambda stub: stub.CreateEvalSet, request)

    @one
    @staticmethod
    def get(id: str) -> Call[pb.EvalSet]:
        """One evalset version by id, or the newest of a key."""
        return unary(Stub, lambda stub: stub.GetEvalSet, pb.GetEvalSetRequest(id=id))

    @many
    @staticmethod
    def list(
        *, filter: str = "", order_by: str = "", page_size: int = 0, limit: int | None = None
    ) -> Pages[pb.EvalSet]:
        """Evalsets; fields of ``filter``: id, key, digest, item_count, create_time, tags.NAME."""
        request = pb.ListEvalSetsRequest(page_size=page_size, filter=filter, order_by=order_by)
        return paged(Stub, lambda stub: stub.ListEvalSets, request, lambda page: page.evalsets, limit=limit)

    @many
    @staticmethod
    def items(
        evalset_id: str, *, filter: str = "", page_size: int = 0, limit: int | None = None
    ) -> Pages[pb.EvalSetItem]:
        """The questions, in the file's order; fields: item_id, section, category, difficulty, answer_type."""
        request = pb.ListEvalSetItemsRequest(evalset_id=evalset_id, page_size=page_size, filter=filter)
        return paged(Stub, lambda stub: stub.ListEvalSetItems, request, lambda page: page.items, limit=limit)
