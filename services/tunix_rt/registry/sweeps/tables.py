"""Rows of sweeps and trials. Does not know how a search algorithm proposes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Index, Text, UniqueConstraint
from sqlmodel import Field

from tunix_rt.registry.kernel.job_tables import JobColumns


class SweepRow(JobColumns, table=True):
    """One hyperparameter sweep."""

    __tablename__ = "sweeps"
    __table_args__ = (Index("ix_sweeps_create_time_id", "create_time", "id"),)

    display_name: str = ""
    # Canonical JSON of the fully set SweepSpec.
    spec: str = Field(sa_type=Text)
    # "primary_score" or the key of a run metric.
    objective_metric: str = "primary_score"
    # "MAX" or "MIN".
    objective_mode: str = "MAX"
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
    # Numbers of the trials that the search was told of between the suggestion before and this one, in that order.
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
