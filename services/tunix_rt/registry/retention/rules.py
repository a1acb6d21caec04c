"""Archiving and deleting: what goes together, what is in the way, and what is written about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import FailedPrecondition, NotFound
from tunix_rt.registry.evaluations.score_values import store_values
from tunix_rt.registry.evaluations.tables import EvaluationRow, ScoreValueRow
from tunix_rt.registry.kernel.commits import notify_on_commit
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.kernel.outbox import emit_fact
from tunix_rt.registry.kernel.rows import check_etag, utc_now
from tunix_rt.registry.kernel.states import is_terminal
from tunix_rt.registry.retention.kinds import Kind, kind_of, kind_of_row
from tunix_rt.registry.retention.tables import TombstoneRow

MAX_RESOURCES: Final = 1000
_MAX_NAMED: Final = 100


@dataclass(frozen=True)
class Step:
    """A resource that goes; ``reason`` is "" for the one that was asked for."""

    kind: Kind
    row: Any
    reason: str = ""


def archive(session: Session, resource_id: str, given_etag: str) -> Step:
    """Hide a resource from lists and leaderboards; one that is hidden already stays as it is.

    Raises `NotFound`, `Aborted` for a stale etag, and `FailedPrecondition` for a job that has not ended.
    """
    kind, row = _locked(session, resource_id)
    check_etag(given_etag, row)
    if row.archive_time is not None:
        return Step(kind, row)
    _check_ended(row)
    _set_archive_time(session, row, utc_now(), "archived")
    if isinstance(row, EvaluationRow):
        # Leaderboards are read from these values alone; `unarchive` makes them again of the scorecard.
        session.execute(delete(ScoreValueRow).where(_of(row)))
    return Step(kind, row)


def unarchive(session: Session, resource_id: str, given_etag: str) -> Step:
    """Show a resource again. Raises `NotFound`, and `Aborted` for a stale etag."""
    kind, row = _locked(session, resource_id)
    check_etag(given_etag, row)
    if row.archive_time is None:
        return Step(kind, row)
    _set_archive_time(session, row, None, "unarchived")
    if isinstance(row, EvaluationRow) and row.scorecard is not None:
        store_values(session, row)
    return Step(kind, row)


def plan(session: Session, resource_id: str, given_etag: str = "", *, cascade: bool) -> list[Step]:
    """What a deletion takes, the resource itself first. Raises `NotFound`, `Aborted` for a stale etag, and
    `FailedPrecondition` naming everything that is in the way.
    """
    kind, row = _locked(session, resource_id)
    check_etag(given_etag, row)
    steps, obstacles = {row.id: Step(kind, row)}, list[str]()
    waiting = [row]
    while waiting:
        found = waiting.pop(0)
        obstacles += _obstacles(session, found)
        for user, why in _users(session, found):
            if user.id in steps:
                continue
            reason = f"{why}: {found.id}"
            if not cascade:
                obstacles.append(f"{named(user)} {why}")
                continue
            steps[user.id] = Step(kind_of_row(user), user, reason)
            waiting.append(user)
            if len(steps) > MAX_RESOURCES:
                raise FailedPrecondition(
                    f"more than {MAX_RESOURCES} resources rest on {resource_id}: delete some of them before"
                )
    if obstacles:
        raise FailedPrecondition(_refusal(resource_id, obstacles, cascade=cascade))
    return list(steps.values())


def delete_all(session: Session, steps: Sequence[Step], *, actor: str) -> None:
    """Delete what `plan` has found, in this transaction: each with a fact and a tombstone."""
    now, first = utc_now(), steps[0].row.id
    for step in sorted(steps, key=lambda step: step.kind.order):
        row = step.row
        emit_fact(session, row, "deleted")
        step.kind.erase(session, row)
        session.add(
            TombstoneRow(
                id=row.id,
                kind=step.kind.name,
                name=getattr(row, "name", "") or step.kind.title(row),
                version=getattr(row, "version", 0),
                project=row.project,
                deleted_with="" if row.id == first else first,
                deleted_by=actor,
                delete_time=now,
                unfinished=step.kind.unfinished,
            )
        )
        notify_on_commit(session, row.id)
        session.delete(row)
        session.flush()


def delete_resource(
    session: Session, resource_id: str, given_etag: str, *, cascade: bool, actor: str, validate_only: bool = False
) -> list[Step]:
    """Delete a resource; returns what has gone, or with ``validate_only`` would go. Errors as of `plan`."""
    steps = plan(session, resource_id, given_etag, cascade=cascade)
    if not validate_only:
        delete_all(session, steps, actor=actor)
    return steps


def named(row: Any) -> str:
    """How a message calls a resource."""
    kind = kind_of_row(row)
    title = kind.title(row)
    return f"{kind.name} {row.id}" + (f" ({title})" if title else "")


def _locked(session: Session, resource_id: str) -> tuple[Kind, Any]:
    kind = kind_of(resource_id)
    row = session.get(kind.table, resource_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound(f"there is no {kind.name} {resource_id!r}")
    return kind, row


def _set_archive_time(session: Session, row: Any, time: datetime | None, what: str) -> None:
    row.archive_time = time
    row.revision += 1
    session.add(row)
    session.flush()
    notify_on_commit(session, row.id)
    emit_fact(session, row, what)


def _check_ended(row: Any) -> None:
    if isinstance(row, JobColumns) and not is_terminal(row):
        raise FailedPrecondition(f"{row.id} is {row.state}: cancel it first")


def _obstacles(session: Session, row: Any) -> Iterator[str]:
    """What keeps a resource whatever is asked."""
    if isinstance(row, JobColumns) and not is_terminal(row):
        yield f"{named(row)} is {row.state}: cancel it first"
    for guard in kind_of_row(row).guards:
        for found in session.scalars(select(guard.table).where(guard.condition(row)).limit(_MAX_NAMED)):
            yield f"{guard.name(found)} rests on {row.id}"


def _users(session: Session, row: Any) -> Iterator[tuple[Any, str]]:
    for use in kind_of_row(row).uses:
        found = (
            select(use.table)
            .where(use.condition(row))
            .order_by(use.table.id)
            .limit(MAX_RESOURCES + 1)
            .with_for_update()
        )
        for user in session.scalars(found).all():
            yield user, use.why


def _refusal(resource_id: str, obstacles: Sequence[str], *, cascade: bool) -> str:
    shown = list(obstacles[:_MAX_NAMED])
    if len(obstacles) > len(shown):
        shown.append(f"{len(obstacles) - len(shown)} more")
    advice = "" if cascade else "; with cascade, what nothing else keeps goes with it"
    return f"{resource_id} cannot be deleted: {'; '.join(shown)}{advice}"


def _of(evaluation: EvaluationRow) -> Any:
    return col(ScoreValueRow.evaluation_id) == evaluation.id
