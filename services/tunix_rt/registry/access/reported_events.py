"""Events of the audit log that other services report of their own calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC
from typing import Final

from sqlalchemy.orm import Session

from tunix_rt.errors import PermissionDenied, Violations
from tunix_rt.registry.access.tables import AuditRow
from tunix_rt.registry.kernel.rows import utc_now
from tunix_rt.rpc.audit import text
from tunix_rt.rpc.auth import Principal, Role
from tunix_rt.v1 import access_pb2 as pb

MAX_EVENTS: Final = 500
# Whose word counts for which methods; nobody's for the registry's own.
_REPORTERS: Final[Sequence[tuple[re.Pattern[str], Role]]] = (
    (re.compile(r"tunix_rt\.v1\.InferenceService/\w+|(GET|POST) (/v1/[\w/{}]+|\(no route\))"), "inferencer"),
    (re.compile(r"tunix_rt\.v1\.TrainingService/\w+"), "trainer"),
    (re.compile(r"tunix_rt\.v1\.ScoringService/\w+"), "evaluator"),
    (re.compile(r"tunix_rt\.v1\.TuningService/\w+"), "tuner"),
)
_OUTCOME: Final = re.compile(r"[A-Z_]{2,30}")
_METHOD: Final = "tunix_rt.v1.AccessService/RecordAuditEvents"
_MAX_COUNT: Final = 1_000_000_000


def check_reported(request: pb.RecordAuditEventsRequest, reporter: Principal, *, auth: bool) -> None:
    """Raises `InvalidInput` naming every bad field, and `PermissionDenied` for events of a service that the caller is
    not. Where ``auth`` is off, callers are not told apart."""
    violations = Violations()
    violations.check(bool(request.events) or request.lost > 0, "events", "is required")
    violations.check(len(request.events) <= MAX_EVENTS, "events", f"at most {MAX_EVENTS}")
    violations.check(0 <= request.lost <= _MAX_COUNT, "lost", f"must be from 0 to {_MAX_COUNT}")
    for index, event in enumerate(request.events[:MAX_EVENTS]):
        where = violations.under(f"events[{index}]")
        where.check(event.HasField("time"), "time", "is required")
        where.check(1 <= event.count <= _MAX_COUNT, "count", f"must be from 1 to {_MAX_COUNT}")
        where.check(_OUTCOME.fullmatch(event.outcome) is not None, "outcome", "is no name of a status")
    violations.raise_if_any()
    foreign = {each.method for each in request.events if auth and not _speaks_for(reporter, each.method)}
    if foreign:
        raise PermissionDenied(f"{reporter.name!r} does not report calls of {sorted(foreign)[0]!r}")


def store_reported(
    session: Session, request: pb.RecordAuditEventsRequest, reporter: Principal
) -> pb.RecordAuditEventsResponse:
    """Write the events, as ``reporter`` says they happened, but not later than now."""
    now = utc_now()
    for event in request.events:
        session.add(
            AuditRow(
                time=min(event.time.ToDatetime(tzinfo=UTC), now),
                principal=text(event.principal),
                token_id=text(event.token_id),
                peer=text(f"{event.peer} reported by {reporter.name}"),
                method=text(event.method),
                resource=text(event.resource),
                request_id=text(event.request_id),
                outcome=event.outcome,
                message=text(event.message),
                count=event.count,
                project=text(event.project),
            )
        )
    if request.lost:
        message = f"{request.lost} events came too fast, and are in the log of the service only"
        session.add(
            AuditRow(
                time=now,
                principal=reporter.name,
                token_id=reporter.token_id,
                method=_METHOD,
                outcome="DATA_LOSS",
                message=message,
                count=request.lost,
            )
        )
    return pb.RecordAuditEventsResponse(stored=len(request.events))


def _speaks_for(reporter: Principal, method: str) -> bool:
    return any(pattern.fullmatch(method) and reporter.roles & {role, "worker"} for pattern, role in _REPORTERS)
