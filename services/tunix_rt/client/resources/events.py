"""The registry's log of facts."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from tunix_rt.client.binding import Group, Mode, many, one
from tunix_rt.client.operations import Call, Follow, Pages, followed, new_request_id, paged, unary
from tunix_rt.client.records import Record
from tunix_rt.contract.documents import document, json_value
from tunix_rt.v1 import events_pb2 as pb
from tunix_rt.v1.events_pb2_grpc import EventServiceStub as Stub

# Kind of resource ("run" of tunix_rt.run.succeeded.v1) → the message in events.proto that is the event's body.
_BODIES: Final = {
    name.removesuffix("Event").lower(): descriptor
    for name, descriptor in pb.DESCRIPTOR.message_types_by_name.items()
    if name.endswith("Event")
}


class Event(Record, of=pb.Event):
    """A CloudEvents 1.0 event; ``data`` is its body as `document` writes it, e.g. ``{"run": …, "transition": …}``."""

    _shown = ("sequence", "type", "resource_id", "time")

    id: str
    sequence: int
    type: str
    subject: str
    resource_id: str
    time: datetime
    traceparent: str
    project: str

    @property
    def data(self) -> dict[str, Any]:
        """The body, with the names and values of every other document; on NATS it is in the proto3 JSON mapping."""
        body = json_value(self.proto.data)
        descriptor = _BODIES.get(self._kind)
        if descriptor is None:  # of a later release
            return dict(body)
        message = GetMessageClass(descriptor)()
        json_format.ParseDict(body, message, ignore_unknown_fields=True)
        return document(message, defaults=True)

    def to_dict(self) -> dict[str, Any]:
        """As `Record.to_dict`."""
        return super().to_dict() | {"data": self.data}

    @property
    def _kind(self) -> str:
        parts = self.type.split(".")
        return parts[1] if len(parts) == 4 else ""


class Republication(Record, of=pb.RepublishEventsResponse):
    """How many facts are published again, and the sequences of the first and the last; 0 without any."""

    events: int
    first_sequence: int
    last_sequence: int


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

    @one
    @staticmethod
    def republish(
        begin: int | datetime,
        end: int | datetime | None = None,
        *,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> Call[Republication]:
        """Publish stored facts to NATS once more, in order, from a sequence or an aware time to another (the newest).

        They keep their ids, and have the header ``tunix-republished``. Raises `InvalidInput` for more than 10,000.
        """
        request = pb.RepublishEventsRequest(request_id=new_request_id(request_id), validate_only=validate_only)
        for prefix, value in (("from", begin), ("to", end)):
            if isinstance(value, datetime):
                getattr(request, f"{prefix}_time").FromDatetime(value)
            elif value is not None:
                setattr(request, f"{prefix}_sequence", value)
        return unary(Stub, lambda stub: stub.RepublishEvents, request, Republication)
