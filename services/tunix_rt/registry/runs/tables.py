"""Rows of runs: the job with its spec, its metrics, logs and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Protocol

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from sqlalchemy import JSON, BigInteger, Index, Text, text
from sqlmodel import Field, SQLModel

from tunix_rt.contract.digests import sha256_digest
from tunix_rt.registry.kernel.archive import ArchiveColumns
from tunix_rt.registry.kernel.columns import BINARY_JSON, ArtifactUri, UtcDateTime, tags_index
from tunix_rt.registry.kernel.filters import Kind
from tunix_rt.registry.kernel.job_tables import JobColumns
from tunix_rt.registry.kernel.stored import read_stored, stored_text
from tunix_rt.v1 import runs_pb2 as pb

Scalar = bool | int | float | str


class HasSpec(Protocol):
    """A row of runs, or the columns of one."""

    @property
    def spec(self) -> str:
        """As stored."""


def run_spec(row: HasSpec) -> pb.RunSpec:
    """The run's spec, every field set. Shared, and so not to be changed."""
    return _parsed(row.spec)


def spec_columns(spec: pb.RunSpec) -> Mapping[str, Any]:
    """The columns of a run that come from its resolved spec."""
    text = stored_text(spec)
    return {
        "spec": text,
        "spec_digest": sha256_digest(text),
        "pool": spec.pool,
        "base_model": spec.base_model,
        "dataset_id": spec.dataset_id,
        "model_name": spec.model_name,
        "max_attempts": spec.max_attempts,
        "deadline_seconds": spec.deadline_seconds,
        "queue_deadline_seconds": spec.queue_deadline_seconds,
        "initial_run_id": spec.initial_checkpoint.run_id,
    }


def config_of(spec: pb.RunSpec) -> dict[str, Scalar]:
    """The hyperparameters of a run by name, nested ones as ``lora.rank``; lists are left out."""
    return dict(_set_fields(spec.hyperparameters, ""))


def _set_fields(message: Message, prefix: str) -> Iterator[tuple[str, Scalar]]:
    for field, value in message.ListFields():
        if field.message_type is not None:
            yield from _set_fields(value, f"{prefix}{field.name}.")
        elif not field.is_repeated:
            yield prefix + field.name, value


def _kinds(descriptor: Any, prefix: str = "") -> Iterator[tuple[str, Kind]]:
    for field in descriptor.fields:
        if field.message_type is not None:
            yield from _kinds(field.message_type, f"{prefix}{field.name}.")
        elif not field.is_repeated:
            texts = {FieldDescriptor.CPPTYPE_STRING: Kind.TEXT, FieldDescriptor.CPPTYPE_BOOL: Kind.BOOLEAN}
            yield prefix + field.name, texts.get(field.cpp_type, Kind.NUMBER)


# How each hyperparameter is written and compared in a filter.
HYPERPARAMETER_KINDS: Final = dict(_kinds(pb.Hyperparameters.DESCRIPTOR))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> pb.RunSpec:
    """Lists show the same runs again and again."""
    return read_stored(pb.RunSpec, text)


class RunRow(JobColumns, ArchiveColumns, table=True):
    """One training run. Its spec is immutable (`run_spec`); what `spec_columns` makes beside it are copies, for SQL."""

    __tablename__ = "runs"
    __table_args__ = (
        # The order that lists are shown in, with what they are filtered by and hardly any run has in common: such a
        # list reads this index through instead of the runs.
        Index("ix_runs_listed", "create_time", "id", "display_name", "base_model", "pool", "archive_time"),
        # Other filters, in the same order.
        Index("ix_runs_state_create_time_id", "state", "create_time", "id"),
        Index("ix_runs_dataset_id_create_time_id", "dataset_id", "create_time", "id"),
        Index("ix_runs_model_name_create_time_id", "model_name", "create_time", "id"),
        Index("ix_runs_project_create_time_id", "project", "create_time", "id"),
        tags_index("ix_runs_tags"),
    )

    # The indexes above know them.
    state: str = "QUEUED"
    create_time: datetime = Field(sa_type=UtcDateTime)
    display_name: str = ""
    # The RunSpec, every field set, as `kernel.stored` writes it; and its sha256. Runs of releases before 0006 have the
    # sha256 of another form of it (`evidence.spec_digest`).
    spec: str = Field(sa_type=Text)
    spec_digest: str
    pool: str
    base_model: str
    dataset_id: str
    model_name: str
    tags: dict[str, str] = Field(default_factory=dict, sa_type=BINARY_JSON)
    model_id: str | None = Field(default=None, index=True)
    # In order of creation.
    evaluation_ids: list[str] = Field(default_factory=list, sa_type=JSON)
    sweep_id: str | None = Field(default=None, index=True)
    trial_id: str | None = Field(default=None, index=True)
    # Metric key to [step, value] of its highest step.
    # Of a run that starts from another's checkpoint; "" elsewhere. A copy, for SQL.
    initial_run_id: str = Field(default="", index=True)
    last_metrics: dict[str, list[Any]] = Field(default_factory=dict, sa_type=JSON)


class MetricRow(SQLModel, table=True):
    """A metric's value at a step; the identity is (run, key, step) and the last value stays.

    That the run exists is known, because it is locked while they are written: the database need not look for each.
    """

    __tablename__ = "metrics"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    step: int = Field(primary_key=True, sa_type=BigInteger)
    value: float
    time: datetime = Field(sa_type=UtcDateTime)


class LogRow(SQLModel, table=True):
    """A log line; the identity is (run, attempt, sequence) and the first stays.

    As with metrics, the database need not look for the run; those of a deleted one go bit by bit.
    """

    __tablename__ = "run_logs"
    __table_args__ = ({"sqlite_with_rowid": False},)

    run_id: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    sequence: int = Field(primary_key=True, sa_type=BigInteger)
    level: str
    message: str = Field(sa_type=Text)
    time: datetime = Field(sa_type=UtcDateTime)


class CheckpointRow(SQLModel, table=True):
    """A checkpoint that a worker wrote; ``removed`` once the worker has deleted it, or nothing needs it any more."""

    __tablename__ = "checkpoints"
    __table_args__ = (
        Index(
            "ix_checkpoints_removed",
            "run_id",
            "step",
            sqlite_where=text("removed"),
            postgresql_where=text("removed"),
        ),
    )

    run_id: str = Field(primary_key=True, foreign_key="runs.id")
    step: int = Field(primary_key=True, sa_type=BigInteger)
    uri: str = Field(sa_type=ArtifactUri)
    digest: str
    size_bytes: int = Field(default=0, sa_type=BigInteger)
    attempt: int = 0
    removed: bool = False
    create_time: datetime = Field(sa_type=UtcDateTime)
