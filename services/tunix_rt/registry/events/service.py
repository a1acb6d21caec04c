"""EventService: the fact rows of the outbox, listed and followed in the order of commits, and published again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import FieldViolation, InvalidInput, Violations
from tunix_rt.registry.kernel.calls import Context, Servicer
from tunix_rt.registry.kernel.commits import OUTBOX
from tunix_rt.registry.kernel.filters import FilterField, Kind
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.messages import timestamp
from tunix_rt.registry.kernel.outbox import FACT, OutboxRow
from tunix_rt.registry.kernel.pages import Key
from tunix_rt.registry.kernel.projects import work_in
from tunix_rt.registry.kernel.reconcile import facts_in, publish_again
from tunix_rt.v1 import events_pb2 as pb
from tunix_rt.v1 import events_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["EventService"].full_name

_BATCH: Final = 200
# What is new waits behind them, commands too.
_MAX_REPUBLISHED: Final = 10_000


def event_message(row: OutboxRow) -> pb.Event:
    """One fact as clients see it."""
    message = pb.Event(
        id=row.id,
        sequence=row.sequence or 0,
        type=row.type,
        subject=row.subject,
        resource_id=row.resource_id,
        time=timestamp(row.create_time),
        traceparent=row.traceparent,
        project=row.project,
    )
    json_format.ParseDict(json.loads(row.body), message.data)
    return message


def subject_matches(pattern: str, subject: str) -> bool:
    """NATS matching: ``*`` is one token, ``>`` is one or more at the end; an empty pattern matches all."""
    if not pattern:
        return True
    wanted, found = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(found) <= len(wanted):
            return False
        found = found[: len(wanted)]
    return len(wanted) == len(found) and all(w in ("*", f) for w, f in zip(wanted, found, strict=True))


def check_pattern(pattern: str) -> None:
    """Raise `InvalidInput` naming ``subject`` unless it is a pattern that NATS would take."""
    tokens = pattern.split(".") if pattern else []
    ok = len(pattern) <= 500 and all(
        token
        and not any(each.isspace() or each == "\0" for each in token)
        and (token in ("*", ">") or not set("*>") & set(token))
        for token in tokens
    )
    if not ok or ">" in tokens[:-1]:
        raise InvalidInput(
            [FieldViolation("subject", "must be a NATS pattern such as tunix.evt.run.> or tunix.evt.*.failed.*")]
        )


_EVENTS: Final = Listing(
    pb.ListEventsResponse,
    OutboxRow,
    event_message,
    orders={"": (Key(col(OutboxRow.sequence)),)},
    fields={
        **{name: FilterField(getattr(OutboxRow, name)) for name in ("id", "type", "subject", "resource_id", "project")},
        "time": FilterField(OutboxRow.create_time, Kind.TIME),
        "sequence": FilterField(OutboxRow.sequence, Kind.INTEGER),
    },
)


class EventServicer(Servicer, events_pb2_grpc.EventServiceServicer):
    """Implements ``tunix_rt.v1.EventService``."""

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        facts = select(OutboxRow).where(col(OutboxRow.kind) == FACT)
        return await self.read(lambda session: _EVENTS.answer(session, request, facts))

    async def WatchEvents(self, request: pb.WatchEventsRequest, context: Context) -> AsyncIterator[pb.Event]:
        check_pattern(request.subject)
        with self.database.commits.subscribe([OUTBOX]) as commits:
            if request.HasField("after_sequence"):
                after = request.after_sequence
            else:
                after = await self.read(_last_sequence)
            # The client learns that it is connected before anything happens.
            await context.send_initial_metadata(())
            while True:
                rows, after, more = await self._next(after, request.subject)
                for row in rows:
                    yield event_message(row)
                if not more:
                    await self.rest()
                    await commits.wait(self.poll_seconds())

    async def RepublishEvents(self, request: pb.RepublishEventsRequest, context: Context) -> pb.RepublishEventsResponse:
        bounds = _bounds(request)

        def republish(session: Session) -> pb.RepublishEventsResponse:
            # Who may ask for it administers the whole instance.
            work_in(session, "")
            found = facts_in(session, *bounds)
            if found.count > _MAX_REPUBLISHED:
                problem = (
                    f"{found.count} facts are in the range, at most {_MAX_REPUBLISHED} are published again at once"
                )
                raise InvalidInput([FieldViolation("to_sequence", problem)])
            if not request.validate_only:
                publish_again(session, *bounds)
            return pb.RepublishEventsResponse(events=found.count, first_sequence=found.first, last_sequence=found.last)

        return await self.mutate(request, pb.RepublishEventsResponse, republish)

    async def _next(self, after: int, pattern: str) -> tuple[list[OutboxRow], int, bool]:
        """Facts after a sequence that match: (rows, sequence to go on from, whether there may be more at once)."""

        def read(session: Session) -> tuple[list[OutboxRow], int, bool]:
            statement = select(OutboxRow).where(
                col(OutboxRow.kind) == FACT, col(OutboxRow.sequence) > after, _prefix(pattern)
            )
            rows = session.scalars(statement.order_by(col(OutboxRow.sequence)).limit(_BATCH)).all()
            last = max((row.sequence or 0 for row in rows), default=after)
            return [row for row in rows if subject_matches(pattern, row.subject)], last, len(rows) == _BATCH

        return await self.database.read_again(read, ("facts", after, pattern))


def _bounds(request: pb.RepublishEventsRequest) -> list[ColumnElement[bool]]:
    """The conditions for facts that are to be published again. Raises `InvalidInput`."""
    violations = Violations()
    begin, end = request.WhichOneof("begin"), request.WhichOneof("end")
    violations.check(begin is not None, "from_sequence", "is required, or from_time")
    found: list[ColumnElement[bool]] = []
    for name, is_first in ((begin, True), (end, False)):
        if name is None:
            continue
        place: Any = getattr(request, name)
        column: Any = col(OutboxRow.sequence)
        if name.endswith("sequence"):
            violations.check(place >= 0, name, "must not be negative")
        else:
            place, column = _time(place, name, violations), col(OutboxRow.create_time)
        found.append(column >= place if is_first else column <= place)
    violations.raise_if_any()
    return found


def _time(stamp: Timestamp, path: str, violations: Violations) -> datetime:
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        violations.add(path, "is not a time from year 1 to 9999")
        return datetime.min.replace(tzinfo=UTC)


def _prefix(pattern: str) -> ColumnElement[bool]:
    """A condition that SQL can check: the literal part of a pattern."""
    literal = pattern.split("*")[0].split(">")[0]
    return col(OutboxRow.subject).startswith(literal, autoescape=True) if literal else true()


def _last_sequence(session: Session) -> int:
    return session.scalar(select(func.max(col(OutboxRow.sequence)))) or 0
