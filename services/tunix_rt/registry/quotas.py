"""How much of the instance one principal may hold: queued jobs, and stored bytes.

Checked in the transaction of what adds to it, by one query each. Calls at once may together exceed a quota by as many
as they are. Workers are exempt: what they make was asked for by somebody who was checked.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Select, Text, cast, func, literal, select, union_all
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import Exhausted
from tunix_rt.registry.datasets.tables import DatasetRow
from tunix_rt.registry.evalsets.tables import EvalSetItemRow, EvalSetRow
from tunix_rt.registry.evaluations.tables import EvaluationRow
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.kernel.states import JobState
from tunix_rt.registry.models.tables import ModelVersionRow
from tunix_rt.registry.runs.tables import RunRow
from tunix_rt.registry.settings import RegistrySettings
from tunix_rt.registry.sweeps.tables import SweepRow
from tunix_rt.rpc.auth import current_principal

_JOBS: Final[tuple[type[JobColumns], ...]] = (RunRow, EvaluationRow, SweepRow)
_GIB: Final = 1 << 30


def check_queued_jobs(session: Session, settings: RegistrySettings) -> None:
    """Raises `Exhausted` when the caller has as many queued jobs as the settings allow."""
    principal, limit = current_principal(), settings.max_queued_jobs_per_principal
    if principal.allows("work"):
        return
    queued = [
        select(literal(1)).where(col(table.state) == JobState.QUEUED.value, col(table.created_by) == principal.name)
        for table in _JOBS
    ]
    count = session.scalar(select(func.count()).select_from(union_all(*queued).subquery())) or 0
    if count >= limit:
        raise Exhausted(
            f"{principal.name!r} has {count} queued jobs, and {limit} are allowed "
            "(TUNIX_RT_MAX_QUEUED_JOBS_PER_PRINCIPAL): cancel some, or wait until workers have taken some",
            retry_after_seconds=10.0,
        )


def check_stored_bytes(session: Session, settings: RegistrySettings) -> None:
    """Raises `Exhausted` when more is stored of the caller than the settings allow, this transaction included.

    Counted are datasets, the items of evalsets, and models that training made for the caller.
    """
    principal, limit = current_principal(), int(settings.max_stored_gib_per_principal * _GIB)
    if principal.allows("work"):
        return
    stored: list[Select[Any]] = [
        select(func.coalesce(func.sum(col(table.size_bytes)), 0).label("size")).where(
            col(table.created_by) == principal.name
        )
        for table in (DatasetRow, ModelVersionRow)
    ]
    stored.append(
        select(func.coalesce(func.sum(func.length(cast(col(EvalSetItemRow.document), Text))), 0).label("size"))
        .join(EvalSetRow, col(EvalSetRow.id) == col(EvalSetItemRow.evalset_id))
        .where(col(EvalSetRow.created_by) == principal.name)
    )
    parts = union_all(*stored).subquery()
    size = int(session.scalar(select(func.sum(parts.c.size))) or 0)
    if size > limit:
        raise Exhausted(
            f"with this, {size:,} bytes would be stored of {principal.name!r}, and {limit:,} are allowed "
            "(TUNIX_RT_MAX_STORED_GIB_PER_PRINCIPAL): delete datasets that no run uses",
            retry_after_seconds=60.0,
        )
