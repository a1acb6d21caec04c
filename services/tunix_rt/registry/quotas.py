"""How much of the instance one principal, and one project, may hold: queued jobs, and stored bytes.

Checked in the transaction of what adds to it, by one query each. Calls at once may together exceed a quota by as many
as they are. Workers are exempt: what they make was asked for by somebody who was checked.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Select, Text, case, cast, func, select, union_all
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import Exhausted
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.evalsets.tables import EvalSetItemRow, EvalSetRow
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.kernel.projects import own_project
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.registry.sweeps.tables import SweepRow
from tunix_rt.rpc.auth import current_principal

_JOBS: Final[tuple[type[JobColumns], ...]] = (RunRow, EvaluationRow, SweepRow)
_GIB: Final = 1 << 30


def check_queued_jobs(session: Session, settings: RegistrySettings) -> None:
    """Raises `Exhausted` when the caller, or the project, has as many queued jobs as the settings allow."""
    name, project = current_principal().name, own_project(session)
    if current_principal().allows("work"):
        return
    queued = union_all(
        *(
            select(col(table.created_by).label("creator")).where(
                col(table.state) == JobState.QUEUED.value, col(table.project) == project
            )
            for table in _JOBS
        )
    ).subquery()
    own = func.count(case((queued.c.creator == name, 1)))
    counts = session.execute(select(own, func.count()).select_from(queued)).one()
    for who, count, limit, setting in (
        (repr(name), counts[0], settings.max_queued_jobs_per_principal, "PRINCIPAL"),
        (f"project {project!r}", counts[1], settings.max_queued_jobs_per_project, "PROJECT"),
    ):
        if count >= limit:
            raise Exhausted(
                f"{who} has {count} queued jobs, and {limit} are allowed (TUNIX_RT_MAX_QUEUED_JOBS_PER_{setting}): "
                "cancel some, or wait until workers have taken some",
                retry_after_seconds=60.0,
            )


def check_stored_bytes(session: Session, settings: RegistrySettings) -> None:
    """Raises `Exhausted` when more is stored of the caller, or of the project, than the settings allow, this
    transaction included.

    Counted are datasets, the items of evalsets, and models that training made.
    """
    name, project = current_principal().name, own_project(session)
    if current_principal().allows("work"):
        return
    items = (
        select(col(EvalSetRow.created_by), func.length(cast(col(EvalSetItemRow.document), Text)))
        .join(EvalSetItemRow, col(EvalSetItemRow.evalset_id) == col(EvalSetRow.id))
        .where(col(EvalSetRow.project) == project)
    )
    stored = union_all(_artifacts(DatasetRow, project), _artifacts(ModelVersionRow, project), items).subquery()
    own = func.sum(case((stored.c.creator == name, stored.c.size), else_=0))
    sizes = session.execute(select(own, func.sum(stored.c.size))).one()
    for who, size, limit, setting in (
        (repr(name), sizes[0], settings.max_stored_gib_per_principal, "PRINCIPAL"),
        (f"project {project!r}", sizes[1], settings.max_stored_gib_per_project, "PROJECT"),
    ):
        allowed = int(limit * _GIB)
        if (size or 0) > allowed:
            raise Exhausted(
                f"with this, {int(size):,} bytes would be stored of {who}, and {allowed:,} are allowed "
                f"(TUNIX_RT_MAX_STORED_GIB_PER_{setting}): delete datasets that no run uses",
                retry_after_seconds=60.0,
            )


def _artifacts(table: Any, project: str) -> Select[Any]:
    """Creator and size of what a table has in the artifact store."""
    columns: list[Any] = [col(table.created_by).label("creator"), col(table.size_bytes).label("size")]
    return select(*columns).where(col(table.project) == project)
