"""Evalset versions: immutable lists of questions with checkable answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import Call, Many, Pages, new_request_id, paged, unary
from tunix_rt.client.records import Record, Resource
from tunix_rt.client.shipped import evalset_path
from tunix_rt.contract.enums import AnswerType, Difficulty, Section
from tunix_rt.v1 import evalsets_pb2 as pb
from tunix_rt.v1.evalsets_pb2_grpc import EvalSetServiceStub as Stub


class EvalSetItem(Record, of=pb.EvalSetItem):
    """A question with its expected answer; tolerances are decimal text."""

    id: str
    prompt: str
    expected_answer: str
    section: Section
    category: str
    difficulty: Difficulty
    answer_type: AnswerType
    abs_tol: str
    rel_tol: str
    unit: str
    aliases: tuple[str, ...]
    cluster_id: str
    meta: dict[str, Any]
    index: int


class DetectableDifference(Record, of=pb.DetectableDifference):
    """Smallest difference of two models that differ on a share of the items (``discordance``), at 80 % power."""

    discordance: float
    difference: float


class EvalSet(Resource[Mode], of=pb.EvalSet):
    """An evalset version; ``digest`` is of its canonical JSONL."""

    _shown = ("id", "key", "item_count")

    id: str
    key: str
    digest: str
    item_count: int
    sections: dict[str, int]
    categories: dict[str, int]
    difficulties: dict[str, int]
    answer_types: dict[str, int]
    create_time: datetime | None
    tags: dict[str, str]
    etag: str
    description: str
    detectable: tuple[DetectableDifference, ...]
    project: str
    archive_time: datetime | None

    @many
    def items(self, *, filter: str = "", limit: int | None = None) -> Many[EvalSetItem]:
        """Its questions, in the file's order; see `EvalSets.items`."""
        return EvalSets.items(self.id, filter=filter, limit=limit)


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
    ) -> Call[EvalSet[Mode]]:
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
    ) -> Call[EvalSet[Mode]]:
        """The operation behind `create`, for JSONL that is not in a file."""
        request = pb.CreateEvalSetRequest(
            request_id=new_request_id(request_id), key=key, jsonl=jsonl, description=description, tags=tags
        )
        return unary(Stub, lambda stub: stub.CreateEvalSet, request, EvalSet)

    @one
    @staticmethod
    def get(id: str) -> Call[EvalSet[Mode]]:
        """One evalset version by id, or the newest of a key."""
        return unary(Stub, lambda stub: stub.GetEvalSet, pb.GetEvalSetRequest(id=id), EvalSet)

    @many
    @staticmethod
    def list(
        *, filter: str = "", order_by: str = "", page_size: int = 0, limit: int | None = None
    ) -> Pages[EvalSet[Mode]]:
        """Evalsets; fields of ``filter``: id, key, digest, item_count, create_time, tags.NAME."""
        request = pb.ListEvalSetsRequest(page_size=page_size, filter=filter, order_by=order_by)
        return paged(
            Stub,
            lambda stub: stub.ListEvalSets,
            request,
            lambda page, runner: EvalSet.each(page.evalsets, runner),
            limit=limit,
        )

    @many
    @staticmethod
    def items(evalset_id: str, *, filter: str = "", page_size: int = 0, limit: int | None = None) -> Pages[EvalSetItem]:
        """The questions, in the file's order; fields: item_id, section, category, difficulty, answer_type."""
        request = pb.ListEvalSetItemsRequest(evalset_id=evalset_id, page_size=page_size, filter=filter)
        return paged(
            Stub, lambda stub: stub.ListEvalSetItems, request, lambda page, _: EvalSetItem.each(page.items), limit=limit
        )
