"""Events of the audit log of a service that has no database: they wait in memory until the registry has stored them.

A service that is killed loses the events of its last second; its own log has every call.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

import grpc

from tunix_rt.errors import TunixError
from tunix_rt.observability import metrics
from tunix_rt.observability.logs import get_logger
from tunix_rt.rpc.audit import Sampler, described, outcome_of, resource_of
from tunix_rt.rpc.auth import Permission
from tunix_rt.rpc.call import Call, current_call
from tunix_rt.rpc.channel import open_channel
from tunix_rt.rpc.errors import answered
from tunix_rt.rpc.interceptors import Context, Guard
from tunix_rt.rpc.introspection import AuthSettings
from tunix_rt.rpc.permissions import required_permission
from tunix_rt.v1 import access_pb2 as pb
from tunix_rt.v1 import access_pb2_grpc

SEND_SECONDS: Final = 1.0
MAX_WAITING: Final = 10_000
# As the registry takes them.
_BATCH: Final = 200
_RETRY_SECONDS: Final = 5.0
_DEADLINE_SECONDS: Final = 5.0
_CHANGES_NOTHING: Final = frozenset[Permission | None]({None, "read", "generate", "identify", "introspect"})
_log = get_logger(__name__)


class AuditReports:
    """Calls that changed something, and refusals. For one event loop."""

    def __init__(self) -> None:
        self._sampler = Sampler()
        self._waiting: deque[pb.AuditEvent] = deque()
        self._lost = 0
        self._sent: pb.RecordAuditEventsRequest | None = None  # until it is known to be stored

    def done(self, call: Call) -> None:
        """Note that a call succeeded."""
        self._add(described(call, resource=resource_of(call.request), count=1))

    def refused(self, call: Call, error: TunixError) -> None:
        """Note that a call was refused: at once the first of its caller, method and kind, then one a minute."""
        outcome = outcome_of(error)
        count = self._sampler.weight_of_refusal(call, outcome) if outcome else 0
        if count:
            resource = resource_of(call.request)
            self._add(described(call, resource=resource, count=count, outcome=outcome, message=str(error)))

    def guard(self) -> Guard:
        """Notes the calls of a server."""

        @asynccontextmanager
        async def guard(method: str, _context: Context) -> AsyncIterator[None]:
            permission = required_permission(method)
            try:
                yield
            except TunixError as error:
                call = current_call()
                is_change = permission not in _CHANGES_NOTHING
                if call is not None and (is_change or outcome_of(error) != "FAILED_PRECONDITION"):
                    self.refused(call, error)
                raise
            call = current_call()
            if call is not None and permission not in _CHANGES_NOTHING:
                self.done(call)

        return guard

    async def run(self, channel: grpc.aio.Channel, stop: asyncio.Event) -> None:
        """Send what waits every second until ``stop`` is set, and then once more."""
        failing = False
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _RETRY_SECONDS if failing else SEND_SECONDS)
            try:
                await self.send(channel)
                failing = False
            except TunixError as error:
                if not failing:
                    _log.warning("the registry does not take events of the audit log yet", error=str(error))
                failing = True
        if self._waiting or self._sent is not None:
            waiting = len(self._waiting) + (len(self._sent.events) if self._sent else 0)
            _log.error("events of the audit log were not stored", count=waiting)

    async def send(self, channel: grpc.aio.Channel) -> None:
        """Have the registry store what waits. Raises `TunixError`, after which nothing is lost."""
        stub = access_pb2_grpc.AccessServiceStub(channel)
        while (request := self._sent or self._next()) is not None:
            self._sent = request
            await answered(stub.RecordAuditEvents(request, timeout=_DEADLINE_SECONDS))
            self._sent = None

    def _next(self) -> pb.RecordAuditEventsRequest | None:
        events = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        lost, self._lost = self._lost, 0
        if not events and not lost:
            return None
        return pb.RecordAuditEventsRequest(request_id=str(uuid.uuid4()), events=events, lost=lost)

    def _add(self, fields: dict[str, Any]) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._lost += 1
            metrics.AUDIT_EVENTS_LOST.inc()
            return
        event = pb.AuditEvent(**fields)
        event.time.FromDatetime(datetime.now(UTC))
        self._waiting.append(event)


@asynccontextmanager
async def reporting(settings: AuthSettings) -> AsyncIterator[AuditReports | None]:
    """Reports to the registry of the settings, inside the block; None where there is no registry."""
    if not settings.registry_address:
        yield None
        return
    reports, stop = AuditReports(), asyncio.Event()
    async with open_channel(settings.registry_address, token=settings.token_source, tls=settings.tls) as channel:
        sending = asyncio.create_task(reports.run(channel, stop))
        try:
            yield reports
        finally:
            stop.set()
            await sending
