"""Runs: creating, changing, cancelling and completing them, and what follows from each.

Specs arrive resolved (`runs.checks`). An artifact's digest is verified by whoever loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.artifacts import StoredArtifact
from tunix_rt.errors import FailedPrecondition, NotFound
from tunix_rt.registry.evaluations import rules as evaluations
from tunix_rt.registry.kernel import leases
from tunix_rt.registry.kernel.commits import notify_on_commit
from tunix_rt.registry.kernel.lease_clock import lease_now
from tunix_rt.registry.kernel.leases import JobProgress, Lease
from tunix_rt.registry.kernel.outbox import emit_command, emit_fact
from tunix_rt.registry.kernel.rows import check_etag, new_id, utc_now
from tunix_rt.registry.kernel.states import JobState, record_creation, transition
from tunix_rt.registry.models.rules import register_from_run
from tunix_rt.registry.runs.tables import RunRow, spec_columns
from tunix_rt.v1 import runs_pb2 as pb

_PROGRESS_FACT_EVERY: Final = timedelta(seconds=5)


@dataclass(frozen=True)
class Result:
    """What a run that has SUCCEEDED made: the exported model, its last step, and lineage beside those two."""

    model: StoredArtifact
    step: int
    lineage: Mapping[str, str]


def new_run(spec: pb.RunSpec, *, display_name: str, tags: Mapping[str, str], actor: str) -> RunRow:
    """The row of a run with that resolved spec, neither stored nor numbered."""
    return RunRow(
        id="",
        display_name=display_name,
        tags=dict(tags),
        create_time=utc_now(),
        created_by=actor,
        **spec_columns(spec),
    )


def create_run(session: Session, run: RunRow) -> RunRow:
    """Store a new run, under an id of its own unless it has one, and send its command."""
    run.id = run.id or new_id("run")
    record_creation(session, run, actor=run.created_by)
    emit_command(session, run)
    return run


def get_run(session: Session, run_id: str) -> RunRow:
    """The run; raises `NotFound`."""
    run = session.get(RunRow, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id!r}")
    return run


def update_run(
    session: Session, run_id: str, *, given_etag: str, display_name: str | None, tags: Mapping[str, str] | None
) -> RunRow:
    """Change name and tags (None leaves them). Raises `NotFound`, and `Aborted` for a stale etag."""
    run = leases.lock_job(session, RunRow, run_id)
    check_etag(given_etag, run)
    if display_name is not None:
        run.display_name = display_name
    if tags is not None:
        run.tags = dict(tags)
    run.revision += 1
    session.add(run)
    session.flush()
    notify_on_commit(session, run.id)
    return run


def cancel_run(session: Session, run_id: str, *, reason: str, message: str, actor: str) -> RunRow:
    """Ask the run to end; one that has ended stays as it is. Raises `NotFound`."""
    run = leases.lock_job(session, RunRow, run_id)
    leases.cancel(session, run, reason=reason, message=message, actor=actor)
    return run


def retry_run(session: Session, run_id: str, *, given_etag: str, message: str, actor: str) -> RunRow:
    """Queue a run that has ended without success once more. Raises `NotFound`, `Aborted` for a stale etag, and
    `FailedPrecondition` for a run in another state, and for a trial's."""
    run = leases.lock_job(session, RunRow, run_id)
    check_etag(given_etag, run)
    if run.trial_id:
        raise FailedPrecondition(
            f"{run.id} is the run of {run.trial_id} of {run.sweep_id}, whose search has learnt of its end: retry or "
            "extend the sweep, or create a run of the same spec"
        )
    leases.retry(session, run, message=message, actor=actor)
    return run


def heartbeat_run(
    session: Session,
    lease: Lease,
    *,
    progress: JobProgress | None,
    ttl: timedelta,
    resumed_step: int = 0,
    now: datetime | None = None,
) -> tuple[RunRow, Lease]:
    """Extend the lease; a change of progress becomes a fact, at most every five seconds."""
    steady = now or lease_now()
    before = leases.lock_job(session, RunRow, lease.job_id)
    seen = (before.progress_done, before.progress_stage)
    run, extended = leases.heartbeat(
        session, RunRow, lease, progress=progress, ttl=ttl, resumed_step=resumed_step, now=now
    )
    due = run.progress_time is None or abs(steady - run.progress_time) >= _PROGRESS_FACT_EVERY
    if due and seen != (run.progress_done, run.progress_stage):
        run.progress_time = steady
        session.add(run)
        session.flush()
        emit_fact(session, run, "progressed")
    return run, extended


def succeed(session: Session, run: RunRow, result: Result, end: leases.End) -> None:
    """Register the model version, create the evaluations that the spec asks for, and end the run.

    The caller holds the lease.
    """
    # Steps made since the last heartbeat.
    run.progress_done = max(run.progress_done, result.step)
    details = dict(result.lineage)
    lineage = {
        "attempt": run.epoch,
        "step": result.step,
        "code_revision": details.pop("code_revision", ""),
        "details": details,
    }
    run.model_id = register_from_run(session, run, result.model, lineage)
    run.evaluation_ids = list(evaluations.create_for_run(session, run))
    holder = leases.holder_of(session, run)
    leases.end_attempt(session, run, "succeeded", reason=end.reason, message=end.message)
    transition(
        session,
        run,
        JobState.SUCCEEDED,
        reason=end.reason,
        message=end.message,
        actor=holder,
        attempt=run.epoch,
    )
