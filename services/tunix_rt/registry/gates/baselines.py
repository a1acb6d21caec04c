"""Baselines: named evaluations that others are compared with. Revisions are only added, never changed."""

from __future__ import annotations

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, aliased
from sqlmodel import col

from tunix_rt.errors import Aborted, FailedPrecondition, NotFound
from tunix_rt.quality.scorecard import MIN_COVERAGE
from tunix_rt.registry.evaluations.rules import get_evaluation
from tunix_rt.registry.kernel.outbox import emit_fact
from tunix_rt.registry.kernel.projects import own_project
from tunix_rt.registry.kernel.rows import etag, lock_name, new_id, utc_now
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.models.tables import BaselineRow


def lock_baseline(
    session: Session, *, name: str, evaluation_id: str, note: str, given_etag: str, actor: str
) -> BaselineRow:
    """Make the evaluation the next revision of the baseline ``name``.

    Raises `NotFound`, `FailedPrecondition` (not SUCCEEDED, or coverage under 98 %), and `Aborted` when the name has a
    revision whose etag was not sent.
    """
    lock_name(session, "baseline", name)
    evaluation = get_evaluation(session, evaluation_id)
    if evaluation.state != JobState.SUCCEEDED:
        raise FailedPrecondition(
            f"{evaluation.id} is {evaluation.state}: only a SUCCEEDED evaluation can be a baseline"
        )
    if (evaluation.coverage or 0.0) < MIN_COVERAGE:
        raise FailedPrecondition(
            f"{evaluation.id} has coverage {evaluation.coverage or 0.0:.3f}: a baseline needs {MIN_COVERAGE}"
        )
    current = in_force(session, name)
    _check_etag(given_etag, current, name)
    row = BaselineRow(
        id=new_id("base"),
        name=name,
        revision=1 if current is None else current.revision + 1,
        evaluation_id=evaluation.id,
        run_id=evaluation.run_id or "",
        model_id=evaluation.model_id,
        identity=evaluation.identity,
        locked_by=actor,
        note=note,
        create_time=utc_now(),
    )
    session.add(row)
    session.flush()
    emit_fact(session, row, "locked")
    return row


def in_force(session: Session, name: str) -> BaselineRow | None:
    """The highest revision of ``name`` in the project; None when it was never locked."""
    own = BaselineRow.is_of(own_project(session))
    revisions = select(BaselineRow).where(own, col(BaselineRow.name) == name)
    return session.scalars(revisions.order_by(col(BaselineRow.revision).desc()).limit(1)).first()


def get_baseline(session: Session, name: str) -> BaselineRow:
    """The revision in force. Raises `NotFound`."""
    row = in_force(session, name)
    if row is None:
        raise NotFound(f"there is no baseline {name!r}; lock an evaluation under that name")
    return row


def baselines_in_force() -> Select[BaselineRow]:
    """The query for the revision in force of every name."""
    later = aliased(BaselineRow)
    newer = select(col(later.id)).where(
        col(later.project) == col(BaselineRow.project),
        col(later.name) == col(BaselineRow.name),
        col(later.revision) > col(BaselineRow.revision),
    )
    return select(BaselineRow).where(~newer.exists())


def history_of(name: str) -> Select[BaselineRow]:
    """The query for every revision of ``name``."""
    return select(BaselineRow).where(col(BaselineRow.name) == name)


def _check_etag(given: str, current: BaselineRow | None, name: str) -> None:
    if current is None:
        if given:
            raise Aborted(f"baseline {name!r} has no revision yet, so that etag {given} is stale; send none")
    elif given != etag(current.revision):
        raise Aborted(
            f"baseline {name!r} is at revision {current.revision} with etag {etag(current.revision)}, but "
            f"{given or 'no etag'} was sent; read it again"
        )
