"""A trainer's reports, and notice of a cancellation, over gRPC; as `reporting.RunReports`."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf import timestamp_pb2

from tunix_rt.errors import Transient
from tunix_rt.rpc.errors import answered, failure_of
from tunix_rt.trainer.messages import CheckpointWritten, MetricsMeasured
from tunix_rt.trainer.reporting import LogRecord
from tunix_rt.v1 import common_pb2, runs_pb2, runs_pb2_grpc
from tunix_rt.worker.grpc_jobs import lease_message, reason_name
from tunix_rt.worker.jobs import Lease


class GrpcRunReports:
    """Translates calls and errors; no retries beyond the channel's own."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: runs_pb2_grpc.RunServiceAsyncStub = runs_pb2_grpc.RunServiceStub(channel)

    async def cancellation(self, run_id: str) -> str:
        watching = self._stub.WatchRun(runs_pb2.WatchRunRequest(id=run_id))
        try:
            async for answer in watching:
                if answer.run.state == common_pb2.JOB_STATE_CANCELLING:
                    return reason_name(answer.run.reason)
        except grpc.RpcError as error:
            raise failure_of(error) from error
        finally:
            watching.cancel()
        raise Transient("the WatchRun stream ended")

    async def metrics(self, lease: Lease, rows: Sequence[MetricsMeasured]) -> None:
        points = [
            common_pb2.MetricPoint(key=key, step=row.step, value=value, time=_timestamp(row.time))
            for row in rows
            for key, value in row.values.items()
        ]
        request = runs_pb2.ReportMetricsRequest(lease=lease_message(lease), points=points)
        await answered(self._stub.ReportMetrics(request))

    async def logs(self, lease: Lease, lines: Sequence[LogRecord]) -> None:
        messages = [
            common_pb2.LogLine(
                time=_timestamp(line.time),
                level=common_pb2.LogLevel.Value(f"LOG_LEVEL_{line.level.upper()}"),
                message=line.text,
                sequence=line.sequence,
                attempt=lease.epoch,
            )
            for line in lines
        ]
        await answered(self._stub.ReportLogs(runs_pb2.ReportLogsRequest(lease=lease_message(lease), lines=messages)))

    async def checkpoint(self, lease: Lease, checkpoint: CheckpointWritten) -> None:
        message = runs_pb2.Checkpoint(
            step=checkpoint.step,
            uri=checkpoint.uri,
            digest=checkpoint.digest,
            size_bytes=checkpoint.size_bytes,
            create_time=_now(),
        )
        request = runs_pb2.RecordCheckpointRequest(
            lease=lease_message(lease), checkpoint=message, removed_steps=checkpoint.removed_steps
        )
        await answered(self._stub.RecordCheckpoint(request))


def _timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


def _now() -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.GetCurrentTime()
    return stamp
