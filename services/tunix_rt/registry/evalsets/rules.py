"""Evalset versions: storing and finding them. What an item may hold is decided in `quality`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import NotFound
from tunix_rt.quality.items import EvalSet
from tunix_rt.registry.evalsets.messages import evalset_message
from tunix_rt.registry.evalsets.tables import EvalSetItemRow, EvalSetRow
from tunix_rt.registry.kernel.outbox import emit_fact
from tunix_rt.registry.kernel.projects import own_project
from tunix_rt.registry.kernel.rows import lock_name, new_id, utc_now
from tunix_rt.v1 import evalsets_pb2


def create_evalset(
    session: Session, *, key: str, evalset: EvalSet, description: str, tags: Mapping[str, str], actor: str
) -> EvalSetRow:
    """Store ``evalset`` under ``key``; the same key and content again is the stored one, unchanged."""
    lock_name(session, "evalset", key)
    own = EvalSetRow.is_of(own_project(session))
    before = session.scalars(
        select(EvalSetRow).where(own, col(EvalSetRow.key) == key, col(EvalSetRow.digest) == evalset.digest)
    ).first()
    if before is not None:
        return before
    statistics = evalset.statistics
    row = EvalSetRow(
        id=new_id("es"),
        key=key,
        digest=evalset.digest,
        item_count=len(evalset.items),
        sections=dict(statistics.sections),
        categories=dict(statistics.categories),
        difficulties=dict(statistics.difficulties),
        answer_types=dict(statistics.answer_types),
        description=description,
        tags=dict(tags),
        create_time=utc_now(),
        created_by=actor,
    )
    session.add(row)
    session.flush()
    session.add_all(
        EvalSetItemRow(
            evalset_id=row.id,
            item_id=item.id,
            position=position,
            section=item.section or "",
            category=item.category or "",
            difficulty=item.difficulty or "",
            answer_type=item.answer_type,
            document=item.to_dict(),
        )
        for position, item in enumerate(evalset.items)
    )
    session.flush()
    emit_fact(session, row, "created")
    return row


def get_evalset(session: Session, id_or_key: str) -> EvalSetRow:
    """The evalset with that id, or the newest version of that key in the project. Raises `NotFound`."""
    is_id, own = col(EvalSetRow.id) == id_or_key, EvalSetRow.is_of(own_project(session))
    row = session.scalars(
        select(EvalSetRow)
        .where(is_id | ((col(EvalSetRow.key) == id_or_key) & own))
        .order_by(is_id.desc(), col(EvalSetRow.create_time).desc(), col(EvalSetRow.id).desc())
        .limit(1)
    ).first()
    if row is None:
        raise NotFound(f"there is no evalset with id or key {id_or_key!r}")
    return row


def items_of(session: Session, evalset_id: str) -> Sequence[EvalSetItemRow]:
    """Every item, in the order of the file."""
    return session.scalars(
        select(EvalSetItemRow)
        .where(col(EvalSetItemRow.evalset_id) == evalset_id)
        .order_by(col(EvalSetItemRow.position))
    ).all()


def items_by_id(session: Session, evalset_id: str) -> dict[str, EvalSetItemRow]:
    """Every item by its id."""
    return {item.item_id: item for item in items_of(session, evalset_id)}


def described(session: Session, rows: Sequence[EvalSetRow]) -> list[evalsets_pb2.EvalSet]:
    """The evalsets as clients see them, in the order given."""
    cluster = col(EvalSetItemRow.document)["cluster_id"].as_string()
    independent = dict.fromkeys((row.id for row in rows), 0)
    counts = (
        select(col(EvalSetItemRow.evalset_id), cluster, func.count())
        .where(col(EvalSetItemRow.evalset_id).in_(independent))
        .group_by(col(EvalSetItemRow.evalset_id), cluster)
    )
    for evalset_id, cluster_id, items in session.execute(counts):
        independent[evalset_id] += 1 if cluster_id else items
    return [evalset_message(row, independent[row.id]) for row in rows]
