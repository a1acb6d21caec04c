"""What resources have in common, as protobuf messages: times, artifacts, states, progress, leases, attempts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from tunix_rt.contract.identifiers import MAX_DISPLAY_NAME, MAX_MESSAGE
from tunix_rt.errors import Violations
from tunix_rt.registry.kernel.fields import check_id, check_text
from tunix_rt.registry.kernel.job_tables import AttemptRow, JobColumns, TransitionRow
from tunix_rt.registry.kernel.leases import JobProgress, Lease
from tunix_rt.registry.kernel.states import JobState, Reason
from tunix_rt.rpc.auth import current_principal
from tunix_rt.v1 import common_pb2, jobs_pb2

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNSPECIFIED: Final = "UNSPECIFIED"
# What a client may cancel for; the others are the registry's own.
_CANCEL_REASONS: Final = (Reason.USER_CANCELLED, Reason.EARLY_STOPPED, Reason.PARENT_CANCELLED)


def timestamp(value: datetime | None) -> Timestamp | None:
    """``value`` (aware) as a message; None stays None, which leaves a message field unset.

    Lists make thousands of these, and `Timestamp.FromDatetime` takes five times as long.
    """
    if value is None:
        return None
    since = value - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def time_text(value: datetime) -> str:
    """``value`` as documents of the contracts have it: RFC 3339 in UTC."""
    stamp = timestamp(value)
    assert stamp is not None
    return str(stamp.ToJsonString())


def artifact_message(uri: str, digest: str, size_bytes: int, files: Iterable[Mapping[str, Any]]) -> common_pb2.Artifact:
    """An artifact from its columns; each of ``files`` has ``path``, ``digest`` and ``size_bytes``."""
    return common_pb2.Artifact(
        uri=uri,
        digest=digest,
        size_bytes=size_bytes,
        files=[
            common_pb2.ArtifactFile(path=file["path"], digest=file["digest"], size_bytes=file["size_bytes"])
            for file in files
        ],
    )


def state_value(state: str) -> common_pb2.JobState.ValueType:
    """The enum's value for a stored state; "" is the unspecified one."""
    return common_pb2.JobState.Value(f"JOB_STATE_{state or _UNSPECIFIED}")


def reason_value(reason: str) -> common_pb2.Reason.ValueType:
    """The enum's value for a stored reason; "" is the unspecified one."""
    return common_pb2.Reason.Value(f"REASON_{reason or _UNSPECIFIED}")


def read_state(value: int) -> JobState | None:
    """The state that a request names; None for the unspecified one and for numbers that this version does not know."""
    if value not in common_pb2.JobState.values() or value == common_pb2.JOB_STATE_UNSPECIFIED:
        return None
    return JobState(common_pb2.JobState.Name(common_pb2.JobState.ValueType(value)).removeprefix("JOB_STATE_"))


def read_reason(value: int) -> Reason | None:
    """The reason that a request names, `Reason.NONE` for the unspecified one; None for an unknown number."""
    if value == common_pb2.REASON_UNSPECIFIED:
        return Reason.NONE
    if value not in common_pb2.Reason.values():
        return None
    return Reason(common_pb2.Reason.Name(common_pb2.Reason.ValueType(value)).removeprefix("REASON_"))


def read_cancellation(request: Any, violations: Violations) -> Reason:
    """Why a client cancels a job; USER_CANCELLED when it does not say. Checks the message that goes with it, too."""
    reason = read_reason(request.reason) or (Reason.USER_CANCELLED if not request.reason else None)
    violations.check(reason in _CANCEL_REASONS, "reason", f"must be one of {', '.join(_CANCEL_REASONS)}")
    check_text(violations, request.message, "message", MAX_MESSAGE)
    return reason or Reason.USER_CANCELLED


def check_retry(request: Any) -> None:
    """Raises `InvalidInput` unless a request to try a job again is well formed."""
    violations = Violations()
    check_id(violations, request.id, "id")
    check_text(violations, request.etag, "etag", MAX_DISPLAY_NAME)
    check_text(violations, request.message, "message", MAX_MESSAGE)
    violations.raise_if_any()


def progress_message(job: JobColumns) -> common_pb2.Progress:
    """How far the job has come."""
    return common_pb2.Progress(
        done=job.progress_done, total=job.progress_total, unit=job.progress_unit, stage=job.progress_stage
    )


def read_progress(message: common_pb2.Progress, violations: Violations) -> JobProgress:
    """The progress that a worker reports."""
    violations.check(message.done >= 0, "done", "must not be negative")
    violations.check(message.total >= 0, "total", "must not be negative")
    for name, text in (("unit", message.unit), ("stage", message.stage)):
        violations.check(
            len(text) <= MAX_DISPLAY_NAME and "\0" not in text, name, f"at most {MAX_DISPLAY_NAME} characters, no NUL"
        )
    return JobProgress(message.done, message.total, message.unit, message.stage)


def lease_message(lease: Lease) -> common_pb2.Lease:
    """What a worker sends with every write; with its secret where a claim has just made it."""
    return common_pb2.Lease(
        job_id=lease.job_id,
        attempt_id=lease.attempt_id,
        epoch=lease.epoch,
        expire_time=timestamp(lease.expire_time),
        secret=lease.secret,
    )


def read_lease(message: common_pb2.Lease, violations: Violations | None = None) -> Lease:
    """The lease in a worker's request, and who sends it; raises `InvalidInput` naming what is missing (or adds it to
    ``violations``). Call it in the RPC's own task. A missing secret is a wrong one, not a malformed request.
    """
    found = violations if violations is not None else Violations()
    for name, text in (("lease.job_id", message.job_id), ("lease.attempt_id", message.attempt_id)):
        found.check(0 < len(text) <= 128 and "\0" not in text, name, "is required, at most 128 characters")
    found.check(message.epoch >= 1, "lease.epoch", "must be at least 1")
    found.check(len(message.secret) <= 128, "lease.secret", "at most 128 characters")
    if violations is None:
        found.raise_if_any()
    return Lease(
        message.job_id,
        message.attempt_id,
        message.epoch,
        secret=message.secret,
        principal=current_principal().name,
    )


def transition_message(row: TransitionRow) -> common_pb2.Transition:
    """One row of a job's history."""
    return common_pb2.Transition(
        from_state=state_value(row.from_state),
        to_state=state_value(row.to_state),
        reason=reason_value(row.reason),
        message=row.message,
        attempt=row.attempt,
        create_time=timestamp(row.create_time),
        actor=row.actor,
    )


def attempt_message(row: AttemptRow) -> jobs_pb2.Attempt:
    """One execution of a job."""
    return jobs_pb2.Attempt(
        id=row.id,
        job_id=row.job_id,
        number=row.number,
        worker_id=row.worker_id,
        start_time=timestamp(row.start_time),
        end_time=timestamp(row.end_time),
        heartbeat_time=timestamp(row.heartbeat_time),
        outcome=jobs_pb2.AttemptOutcome.Value(f"ATTEMPT_OUTCOME_{row.outcome.upper()}"),
        reason=reason_value(row.reason),
        message=row.message,
        resumed_step=row.resumed_step,
        environment=row.environment,
        principal=row.principal,
    )
