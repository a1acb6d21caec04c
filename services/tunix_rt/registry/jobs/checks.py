"""What workers say of jobs of any kind, decoded and checked: every offending field named at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tunix_rt.artifacts import ArtifactRoot
from tunix_rt.contract.identifiers import MAX_DISPLAY_NAME, MAX_MESSAGE
from tunix_rt.errors import Violations
from tunix_rt.registry.jobs.kind import JobKind
from tunix_rt.registry.kernel.fields import check_text
from tunix_rt.registry.kernel.leases import End, JobProgress, Lease
from tunix_rt.registry.kernel.messages import read_lease, read_progress, read_reason, read_state
from tunix_rt.registry.kernel.states import JobState, Reason
from tunix_rt.v1 import jobs_pb2 as pb

_MAX_ENTRIES: Final = 100
_ENDS: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


def check_claim(request: pb.ClaimRequest) -> None:
    """Raises `InvalidInput` when the request is malformed."""
    violations = Violations()
    worker = request.worker_id
    violations.check(
        0 < len(worker) <= MAX_DISPLAY_NAME and "\0" not in worker,
        "worker_id",
        f"is required, at most {MAX_DISPLAY_NAME} characters",
    )
    violations.check(request.kind in pb.JobKind.values(), "kind", "is not a JobKind")
    check_entries(request.environment, violations, "environment")
    violations.raise_if_any()


def read_heartbeat(request: pb.HeartbeatRequest) -> tuple[Lease, JobProgress | None]:
    """Lease and progress. Raises `InvalidInput`."""
    violations = Violations()
    lease = read_lease(request.lease, violations)
    progress = None
    if request.HasField("progress"):
        progress = read_progress(request.progress, violations.under("progress"))
    violations.check(request.resumed_step >= 0, "resumed_step", "must not be negative")
    violations.raise_if_any()
    return lease, progress


def read_completion(request: pb.CompleteRequest, kind: JobKind[Any], root: ArtifactRoot) -> tuple[End, Any]:
    """How the attempt ended, and its result, None unless it SUCCEEDED; artifacts must lie below ``root``.

    Looks into the file system. Raises `InvalidInput`.
    """
    violations = Violations()
    state, reason = read_state(request.state), read_reason(request.reason)
    violations.check(state in _ENDS, "state", "must be SUCCEEDED, FAILED or CANCELLED")
    violations.check(reason is not None, "reason", "is not a Reason")
    violations.check(state != JobState.FAILED or reason != Reason.NONE, "reason", "is required with FAILED")
    check_text(violations, request.message, "message", MAX_MESSAGE)
    result = None
    given = request.WhichOneof("result")
    if state != JobState.SUCCEEDED:
        violations.check(given is None, given or "", "comes only with SUCCEEDED")
    elif violations.check(given == kind.name, kind.name, f"is required with SUCCEEDED of a {kind.name}"):
        result = kind.read_result(getattr(request, kind.name), root, violations.under(kind.name))
    violations.raise_if_any()
    return End(state or JobState.FAILED, reason or Reason.NONE, request.message, request.retryable), result


def read_release(request: pb.ReleaseRequest) -> Lease:
    """The lease that is handed back. Raises `InvalidInput`."""
    violations = Violations()
    lease = read_lease(request.lease, violations)
    check_text(violations, request.message, "message", MAX_MESSAGE)
    violations.raise_if_any()
    return lease


def check_entries(entries: Mapping[str, str], violations: Violations, path: str) -> None:
    """A small map of text, as workers describe themselves and what they made."""
    violations.check(len(entries) <= _MAX_ENTRIES, path, f"at most {_MAX_ENTRIES} entries")
    for name, value in sorted(entries.items()):
        ok = 0 < len(name) <= 200 and len(value) <= 2000 and "\0" not in name + value
        violations.check(ok, f"{path}.{name[:50]}", "at most 200 characters of name and 2000 of value, no NUL")
