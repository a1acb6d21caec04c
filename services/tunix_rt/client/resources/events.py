"""The registry's log of facts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tunix_rt.client.binding import Group, Mode, many
from tunix_rt.client.operations import Follow, Pages, followed, paged
from tunix_rt.client.records import Record
from tunix_rt.v1 import events_pb2 as pb
from tunix_rt.v1.events_pb2_grpc import EventServiceStub as Stub


class Event(Record, of=pb.Event):
    """A CloudEvents 1.0 event; ``data`` is the document of its resource."""

    _shown = ("sequence", "type", "resource_id", "time")

    id: str
    sequence: int
    type: str
    subject: str
    resource_id: str
    time: datetime
    traceparent: str
    data: dict[str, Any]


class Events(Group[Mode]):
    """``client.events``"""

    @many
    @staticmethod
    def watch(*, subject: str = "", after_sequence: int | None = None) -> Follow[Event]:
        """Facts as they happen, without end: those after a sequence, else from now on. Outages lose none.

        ``subject`` is a NATS pattern ("tunix.evt.run.>"); empty is all.
        """

        def request(last: Event | None) -> pb.WatchEventsRequest:
            after = after_sequence if last is None else last.sequence
            return pb.WatchEventsRequest(subject=subject, after_sequence=after)

        return followed(Stub, lambda stub: stub.WatchEvents, request, Event, lambda event: False)

    @many
    @staticmethod
    def list(*, filter: str = "", page_size: int = 0, limit: int | None = None) -> Pages[Event]:
        """Facts that have happened; fields: id, type, subject, resource_id, time, sequence."""
        request = pb.ListEventsRequest(page_size=page_size, filter=filter)
        return paged(Stub, lambda stub: stub.ListEvents, request, lambda page, _: Event.each(page.events), limit=limit)
