"""EventService: the fact rows of the outbox, listed and followed in the order of commits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Final

from google.protobuf import json_format
from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.orm import Session
from sqlmodel import col

from tunix_rt.errors import FieldViolation, InvalidInput
from tunix_rt.registry.kernel.calls import POLL_SECONDS, Context, Servicer
from tunix_rt.registry.kernel.commits import OUTBOX
from tunix_rt.registry.kernel.filters import FilterField, Kind
from tunix_rt.registry.kernel.lists import Listing
from tunix_rt.registry.kernel.messages import timestamp
from tunix_rt.registry.kernel.outbox import FACT, OutboxRow
from tunix_rt.registry.kernel.pages import Key
from tunix_rt.v1 import events_pb2 as pb
from tunix_rt.v1 import events_pb2_grpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["EventService"].full_name

_BATCH: Final = 200


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
                    await commits.wait(POLL_SECONDS)

    async def _next(self, after: int, pattern: str) -> tuple[list[OutboxRow], int, bool]:
        """Facts after a sequence that match: (rows, sequence to go on from, whether there may be more at once)."""

        def read(session: Session) -> tuple[list[OutboxRow], int, bool]:
            statement = select(OutboxRow).where(
                col(OutboxRow.kind) == FACT, col(OutboxRow.sequence) > after, _prefix(pattern)
            )
            rows = session.scalars(statement.order_by(col(OutboxRow.sequence)).limit(_BATCH)).all()
            last = max((row.sequence or 0 for row in rows), default=after)
            return [row for row in rows if subject_matches(pattern, row.subject)], last, len(rows) == _BATCH

        return await self.read(read)


def _prefix(pattern: str) -> ColumnElement[bool]:
    """A condition that SQL can check: the literal part of a pattern."""
    literal = pattern.split("*")[0].split(">")[0]
    return col(OutboxRow.subject).startswith(literal, autoescape=True) if literal else true()


def _last_sequence(session: Session) -> int:
    return session.scalar(select(func.max(col(OutboxRow.sequence)))) or 0
