"""Columns that every job has, and the rows that hang off a job: attempts and transitions.

Runs, evaluations, sweeps (and, without leases, trials) share one state machine; `states` and `leases` are the only
writers of these columns.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Text
from sqlmodel import Field, SQLModel

from tunix_rt.registry.kernel.columns import UtcDateTime
from tunix_rt.registry.kernel.projects import ProjectColumns


class JobColumns(ProjectColumns):
    """Mixin of a job's table."""

    id: str = Field(primary_key=True)
    # Name of a `states.JobState`.
    state: str = Field(default="QUEUED", index=True)
    # Name of a `states.Reason`; "" is none.
    reason: str = ""
    message: str = Field(default="", sa_type=Text)
    progress_done: int = Field(default=0, sa_type=BigInteger)
    progress_total: int = Field(default=0, sa_type=BigInteger)
    progress_unit: str = ""
    progress_stage: str = ""
    # When the last "progressed" fact went out.
    progress_time: datetime | None = Field(default=None, sa_type=UtcDateTime)
    create_time: datetime = Field(sa_type=UtcDateTime, index=True)
    start_time: datetime | None = Field(default=None, sa_type=UtcDateTime)
    end_time: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # Seconds of running time allowed; 0 is no limit.
    deadline_seconds: int = Field(default=0, sa_type=BigInteger)
    # That long after it was first claimed, of `lease_clock`.
    deadline_time: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # Seconds of waiting for the first claim allowed; 0 is no limit.
    queue_deadline_seconds: int = Field(default=0, sa_type=BigInteger)
    # That long after it was queued, of `lease_clock`.
    queue_deadline_time: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # The etag: grows with every change that a client can see, but progress.
    revision: int = 1
    # Epoch of the newest claim; 0 before the first.
    epoch: int = Field(default=0, sa_type=BigInteger)
    # The attempt that holds the lease; None when nobody does.
    lease_attempt_id: str | None = None
    lease_expire_time: datetime | None = Field(default=None, sa_type=UtcDateTime, index=True)
    worker_id: str = ""
    # All claims so far, released ones too.
    attempts: int = 0
    # Attempts that were lost or failed: what max_attempts bounds.
    failures: int = 0
    max_attempts: int = 5
    created_by: str = ""
    # Why cancellation was requested: sent to the worker, and the reason that the job ends with.
    cancel_reason: str = ""
    cancel_message: str = Field(default="", sa_type=Text)


class AttemptRow(SQLModel, table=True):
    """One execution of a job by one worker. ``outcome``: running, succeeded, failed, cancelled, lost or released."""

    __tablename__ = "attempts"

    id: str = Field(primary_key=True)
    job_id: str = Field(index=True)
    # From 1; equals the lease epoch.
    number: int
    worker_id: str
    start_time: datetime = Field(sa_type=UtcDateTime)
    end_time: datetime | None = Field(default=None, sa_type=UtcDateTime)
    heartbeat_time: datetime = Field(sa_type=UtcDateTime)
    outcome: str = "running"
    reason: str = ""
    message: str = Field(default="", sa_type=Text)
    resumed_step: int = Field(default=0, sa_type=BigInteger)
    environment: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    # Who claimed it, and the sha256 of the lease's secret; "" of attempts before revision 0007, which nobody can claim
    # to be.
    principal: str = ""
    secret_hash: str = ""


class TransitionRow(SQLModel, table=True):
    """One change of a job's state. Append-only; ``from_state`` is "" for the creation."""

    __tablename__ = "transitions"
    __table_args__ = (Index("ix_transitions_job_id_sequence", "job_id", "sequence"),)

    sequence: int | None = Field(default=None, primary_key=True)
    job_id: str
    from_state: str
    to_state: str
    reason: str = ""
    message: str = Field(default="", sa_type=Text)
    # 0 when no attempt was involved.
    attempt: int = 0
    actor: str = ""
    create_time: datetime = Field(sa_type=UtcDateTime)
