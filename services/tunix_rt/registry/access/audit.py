"""The audit log: who did what, and what was refused.

An event of an effect is written in the effect's transaction. One writer at a time gives events their place in the chain
afterwards, so that calls do not wait for each other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.contract.audit import FIELDS, audit_digest
from tunix_rt.errors import FailedPrecondition, PermissionDenied, TunixError, Unauthenticated
from tunix_rt.observability.logs import get_logger
from tunix_rt.registry.access.tables import AuditRow
from tunix_rt.registry.kernel.database import Database
from tunix_rt.registry.kernel.projects import project_of
from tunix_rt.registry.kernel.rows import lock_name, utc_now
from tunix_rt.rpc.audit import Sampler, described, outcome_of, resource_of
from tunix_rt.rpc.auth import current_principal
from tunix_rt.rpc.call import Call, current_call
from tunix_rt.rpc.interceptors import Context, Guard
from tunix_rt.rpc.permissions import required_permission

# Calls that workers repeat all the time: the first is written, and then one event a minute with their number.
ROUTINE: Final = frozenset({"Heartbeat", "ReportMetrics", "ReportLogs", "RecordItems", "RecordAuditEvents"})
CHAIN_SECONDS: Final = 1.0
_BATCH: Final = 500
_MAX_PENDING: Final = 1_000
_log = get_logger(__name__)


class AuditLog:
    """Writes events of calls. Refusals have no transaction: they wait for `run`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._sampler = Sampler(clock)
        self._pending: list[AuditRow] = []
        self._dropped = 0

    def record(self, session: Session, result: object) -> None:
        """Write the event of the call being served into its transaction; outside of a call, nothing."""
        call = current_call()
        if call is None:
            return
        resource, count = resource_of(call.request, result), 1
        if call.method.rpartition("/")[2] in ROUTINE:
            count = self._sampler.weight((current_principal().token_id, call.method, resource))
        if count:
            row = _row(call, resource=resource, count=count)
            # A worker's call works in the project of its job.
            row.project = project_of(session)
            session.add(row)

    def refused(self, call: Call, error: TunixError) -> None:
        """Note that a call was refused: at once the first of its caller, method and kind, then one a minute."""
        outcome = outcome_of(error)
        count = self._sampler.weight_of_refusal(call, outcome)
        if not count:
            return
        if len(self._pending) >= _MAX_PENDING:
            self._dropped += 1
            return
        resource = resource_of(call.request)
        self._pending.append(_row(call, resource=resource, count=count, outcome=outcome, message=str(error)))

    async def run(self, database: Database, stop: asyncio.Event) -> None:
        """Store refusals and continue the chain every second until ``stop`` is set, and then once more."""
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), CHAIN_SECONDS)
            try:
                await self.store(database)
            except TunixError as error:
                _log.warning("the audit log waits for the database", error=str(error))

    async def store(self, database: Database) -> None:
        """Store the refusals that wait, and give every stored event its place."""
        waiting, self._pending = self._pending, []
        dropped, self._dropped = self._dropped, 0
        if dropped:
            _log.warning("refusals came too fast to be written one by one", count=dropped)
        if waiting:
            try:
                await database.run_write(lambda session: session.add_all(waiting))
            except TunixError:
                self._pending = (waiting + self._pending)[:_MAX_PENDING]
                raise
        while await database.run_read(_has_unchained, statement=True):
            await database.run_write(continue_chain)


def audit_guard(log: AuditLog) -> Guard:
    """Notes refusals: of callers without the right, and of approvals whose conditions do not hold."""

    @asynccontextmanager
    async def guard(method: str, context: Context) -> AsyncIterator[None]:
        try:
            yield
        except (Unauthenticated, PermissionDenied) as error:
            _note(log, error)
            raise
        except FailedPrecondition as error:
            if required_permission(method) in ("approve", "administer"):
                _note(log, error)
            raise

    return guard


def continue_chain(session: Session) -> int:
    """Give up to 500 events their place in the chain; how many there were."""
    lock_name(session, "audit", "chain")
    newest = select(AuditRow).where(col(AuditRow.sequence).is_not(None)).order_by(col(AuditRow.sequence).desc())
    last = session.scalars(newest.limit(1)).first()
    sequence, digest = (last.sequence or 0, last.digest) if last else (0, "")
    waiting = select(AuditRow).where(col(AuditRow.sequence).is_(None)).order_by(col(AuditRow.id)).limit(_BATCH)
    rows = session.scalars(waiting).all()
    for row in rows:
        sequence += 1
        event = {name: getattr(row, name) for name in FIELDS} | {"sequence": sequence, "previous_digest": digest}
        place = {"sequence": sequence, "previous_digest": digest}
        digest = audit_digest(event)
        session.execute(update(AuditRow).where(col(AuditRow.id) == row.id).values(**place, digest=digest))
    return len(rows)


def _has_unchained(session: Session) -> bool:
    return (
        session.scalars(select(col(AuditRow.id)).where(col(AuditRow.sequence).is_(None)).limit(1)).first() is not None
    )


def _note(log: AuditLog, error: TunixError) -> None:
    call = current_call()
    if call is not None:
        log.refused(call, error)


def _row(call: Call, *, resource: str, count: int, outcome: str = "OK", message: str = "") -> AuditRow:
    fields = described(call, resource=resource, count=count, outcome=outcome, message=message)
    return AuditRow(time=utc_now(), **fields)
