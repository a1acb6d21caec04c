"""Rows of sweeps, with their specs, and of trials."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, Index, Text, UniqueConstraint
from sqlmodel import Field

from tunix_rt.registry.kernel.archive import ArchiveColumns
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.kernel.stored import read_stored, stored_text
from tunix_rt.search_space.defaults import with_defaults
from tunix_rt.search_space.messages import space_of
from tunix_rt.v1 import sweeps_pb2 as pb


class SweepRow(JobColumns, ArchiveColumns, table=True):
    """One hyperparameter sweep; see `sweep_spec`."""

    __tablename__ = "sweeps"
    __table_args__ = (
        Index("ix_sweeps_create_time_id", "create_time", "id"),
        Index("ix_sweeps_project_create_time_id", "project", "create_time", "id"),
    )

    display_name: str = ""
    # The SweepSpec, every field set, as `kernel.stored` writes it. Only `num_samples` ever changes.
    spec: str = Field(sa_type=Text)
    tags: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    # Of a sweep that has not ended: no tuner is to hold it.
    paused: bool = False


class TrialRow(JobColumns, table=True):
    """One suggestion and the ordinary run that carries it out. Its state follows that run's: nobody leases a trial."""

    __tablename__ = "trials"
    __table_args__ = (UniqueConstraint("sweep_id", "number", name="uq_trials_sweep_id_number"),)

    sweep_id: str = Field(foreign_key="sweeps.id", index=True)
    # configuration × repeats + repeat.
    number: int
    configuration: int = 0
    repeat: int = 0
    # Numbers of the trials whose results the search got between the suggestion before and this one, in that order.
    observed: list[int] = Field(default_factory=list, sa_type=JSON)
    # Of a population, what the trial goes on from: member, generation, parent_trial_id, parent_step. Else empty.
    origin: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    parameters: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    run_id: str = Field(index=True)
    objective: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    evaluation_id: str | None = None

    @property
    def start(self) -> int:
        """Training step of the checkpoint that it went on from; 0 of one that began by itself."""
        return int(self.origin.get("parent_step", 0))


def sweep_spec(row: SweepRow) -> pb.SweepSpec:
    """The sweep's spec, every field set. Shared, and so not to be changed."""
    return _parsed(row.spec)


def spec_columns(spec: pb.SweepSpec) -> Mapping[str, Any]:
    """The columns of a sweep that come from its resolved spec."""
    return {
        "spec": stored_text(spec),
        "max_attempts": spec.max_attempts,
        "queue_deadline_seconds": spec.queue_deadline_seconds,
    }


def trial_count(row: SweepRow) -> int:
    """Trials that the sweep is to have."""
    return _trial_count(row.spec)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> pb.SweepSpec:
    # Specs of earlier releases have fewer fields.
    return with_defaults(read_stored(pb.SweepSpec, text))


@lru_cache(maxsize=1024)
def _trial_count(text: str) -> int:
    return space_of(_parsed(text)).trial_count
