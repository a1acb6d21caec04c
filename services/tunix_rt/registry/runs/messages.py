"""Runs and what hangs off them, as protobuf messages."""

from __future__ import annotations

from typing import Final

from sqlmodel import col

from tunix_rt.registry.kernel.messages import progress_message, reason_value, state_value, timestamp
from tunix_rt.registry.kernel.rows import etag
from tunix_rt.registry.runs.tables import CheckpointRow, LogRow, MetricRow, RunRow, run_spec
from tunix_rt.v1 import common_pb2
from tunix_rt.v1 import runs_pb2 as pb

# All that `run_message` reads; the id comes first. A list need not load the rest.
RUN_COLUMNS: Final = tuple(
    col(getattr(RunRow, name))
    for name in (
        "id",
        "display_name",
        "spec",
        "spec_digest",
        "state",
        "reason",
        "message",
        "progress_done",
        "progress_total",
        "progress_unit",
        "progress_stage",
        "create_time",
        "start_time",
        "end_time",
        "tags",
        "revision",
        "attempts",
        "model_id",
        "evaluation_ids",
        "sweep_id",
        "trial_id",
        "last_metrics",
        "created_by",
        "project",
        "archive_time",
    )
)


def run_message(row: RunRow) -> pb.Run:
    """The run as clients see it; ``row`` is a run's, or has `RUN_COLUMNS`."""
    return pb.Run(
        id=row.id,
        display_name=row.display_name,
        spec=run_spec(row),
        state=state_value(row.state),
        reason=reason_value(row.reason),
        message=row.message,
        progress=progress_message(row),
        create_time=timestamp(row.create_time),
        start_time=timestamp(row.start_time),
        end_time=timestamp(row.end_time),
        tags=row.tags,
        etag=etag(row.revision),
        attempts=row.attempts,
        model_id=row.model_id or "",
        evaluation_ids=row.evaluation_ids,
        sweep_id=row.sweep_id or "",
        trial_id=row.trial_id or "",
        last_metrics={key: value for key, (_, value) in row.last_metrics.items()},
        spec_digest=row.spec_digest,
        created_by=row.created_by,
        project=row.project,
        archive_time=timestamp(row.archive_time),
    )


def metric_message(row: MetricRow) -> common_pb2.MetricPoint:
    """One value of one metric."""
    return common_pb2.MetricPoint(key=row.key, step=row.step, value=row.value, time=timestamp(row.time))


def log_message(row: LogRow) -> common_pb2.LogLine:
    """One log line."""
    return common_pb2.LogLine(
        time=timestamp(row.time),
        level=common_pb2.LogLevel.Value(f"LOG_LEVEL_{row.level}"),
        message=row.message,
        sequence=row.sequence,
        attempt=row.attempt,
    )


def checkpoint_message(row: CheckpointRow) -> pb.Checkpoint:
    """One checkpoint."""
    return pb.Checkpoint(
        step=row.step, uri=row.uri, digest=row.digest, size_bytes=row.size_bytes, create_time=timestamp(row.create_time)
    )
