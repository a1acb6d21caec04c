"""Baselines: named evaluations that others are compared with. Revisions are only added, never changed."""

from __future__ import annotations

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, aliased
from sqlmodel import col

from tunix_rt.errors import FailedPrecondition, NotFound
from tunix_rt.quality.scorecard import MIN_COVERAGE
from tunix_rt.registry.evaluations.rules import hold_scores
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel.outbox import emit_fact
from tunix_rt.registry.kernel.projects import own_project
from tunix_rt.registry.kernel.rows import check_replaces, lock_name, new_id, utc_now
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.models.tables import BaselineRow


def lock_baseline(
    session: Session, *, name: str, evaluation_id: str, note: str, given_etag: str, actor: str
) -> BaselineRow:
    """Make the evaluation the next revision of the baseline ``name``.

    Raises `NotFound`, `FailedPrecondition` (not SUCCEEDED, or coverage under 98 %), and, where the name has a revision,
    `InvalidInput` without its etag and `Aborted` for another.
    """
    (evaluation,) = hold_scores(session, evaluation_id)
    lock_name(session, "baseline", name)
    if evaluation.state != JobState.SUCCEEDED:
        raise FailedPrecondition(
            f"{evaluation.id} is {evaluation.state}: only a SUCCEEDED evaluation can be a baseline"
        )
    if (evaluation.coverage or 0.0) < MIN_COVERAGE:
        raise FailedPrecondition(
            f"{evaluation.id} has coverage {evaluation.coverage or 0.0:.3f}: a baseline needs {MIN_COVERAGE}"
        )
    current = in_force(session, name)
    check_replaces(given_etag, None if current is None else current.revision, f"baseline {name!r}", "GetBaseline")
    return _add_revision(session, name, current, evaluation, note=note, actor=actor)


def follow_score(session: Session, evaluation: EvaluationRow, former_version: str) -> None:
    """The evaluation was scored again: baselines in force that it is get a revision with its new identity. The caller
    holds the evaluation's lock."""
    own = baselines_in_force().where(col(BaselineRow.evaluation_id) == evaluation.id)
    for name in sorted(row.name for row in session.scalars(own)):
        lock_name(session, "baseline", name)
        current = in_force(session, name)
        if current is not None and current.evaluation_id == evaluation.id:
            note = f"scored again by {evaluation.scorer_version}; the score that was locked is of {former_version}"
            _add_revision(session, name, current, evaluation, note=note, actor="registry")


def _add_revision(
    session: Session, name: str, current: BaselineRow | None, evaluation: EvaluationRow, *, note: str, actor: str
) -> BaselineRow:
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
