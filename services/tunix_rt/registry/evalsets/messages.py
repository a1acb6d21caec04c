"""Evalset rows as protobuf messages."""

from __future__ import annotations

from google.protobuf import json_format

from tunix_rt.quality.resolution import detectable
from tunix_rt.registry.evalsets.tables import EvalSetItemRow, EvalSetRow
from tunix_rt.registry.kernel.messages import timestamp
from tunix_rt.registry.kernel.rows import etag
from tunix_rt.v1 import evalsets_pb2 as pb

SECTIONS = {
    "core": pb.SECTION_CORE,
    "trace_sensitive": pb.SECTION_TRACE_SENSITIVE,
    "edge_case": pb.SECTION_EDGE_CASE,
}
DIFFICULTIES = {"easy": pb.DIFFICULTY_EASY, "medium": pb.DIFFICULTY_MEDIUM, "hard": pb.DIFFICULTY_HARD}
ANSWER_TYPES = {
    "text": pb.ANSWER_TYPE_TEXT,
    "numeric": pb.ANSWER_TYPE_NUMERIC,
    "choice": pb.ANSWER_TYPE_CHOICE,
    "set": pb.ANSWER_TYPE_SET,
    "regex": pb.ANSWER_TYPE_REGEX,
    "math": pb.ANSWER_TYPE_MATH,
    "date": pb.ANSWER_TYPE_DATE,
    "time": pb.ANSWER_TYPE_TIME,
    "boolean": pb.ANSWER_TYPE_BOOLEAN,
    "choices": pb.ANSWER_TYPE_CHOICES,
}


def evalset_message(row: EvalSetRow, independent_items: int) -> pb.EvalSet:
    """The evalset as clients see it, without its items; of those that share a cluster one is independent."""
    return pb.EvalSet(
        id=row.id,
        key=row.key,
        digest=row.digest,
        item_count=row.item_count,
        sections=row.sections,
        categories=row.categories,
        difficulties=row.difficulties,
        answer_types=row.answer_types,
        create_time=timestamp(row.create_time),
        tags=row.tags,
        etag=etag(row.revision),
        project=row.project,
        archive_time=timestamp(row.archive_time),
        description=row.description,
        detectable=[
            pb.DetectableDifference(discordance=each.discordance, difference=each.difference)
            for each in detectable(independent_items)
        ],
    )


def item_message(row: EvalSetItemRow) -> pb.EvalSetItem:
    """One question as clients and evaluators see it."""
    item = row.document
    message = pb.EvalSetItem(
        id=row.item_id,
        prompt=item["prompt"],
        expected_answer=item["expected_answer"],
        section=SECTIONS.get(row.section, pb.SECTION_UNSPECIFIED),
        category=row.category,
        difficulty=DIFFICULTIES.get(row.difficulty, pb.DIFFICULTY_UNSPECIFIED),
        answer_type=ANSWER_TYPES[row.answer_type],
        abs_tol=item.get("abs_tol") or "0",
        rel_tol=item.get("rel_tol") or "0",
        unit=item.get("unit") or "",
        aliases=item.get("aliases") or (),
        cluster_id=item.get("cluster_id") or "",
        index=row.position,
    )
    if item.get("meta"):
        json_format.ParseDict(item["meta"], message.meta)
    return message
