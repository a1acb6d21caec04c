"""Methods on the registry's log of facts."""

from __future__ import annotations

from tunix_rt.client.binding import Group, Mode, many
from tunix_rt.client.operations import Follow, Pages, followed, paged
from tunix_rt.v1 import events_pb2 as pb
from tunix_rt.v1.events_pb2_grpc import EventServiceStub as Stub


class Events(Group[Mode]):
    """``client.events``"""

    @many
    @staticmethod
    def watch(*, subject: str = "", after_sequence: int | None = None) -> Follow[pb.Event]:
        """Facts as they happen, for ever: those after a sequence, else from now on; none is lost in an outage.

        ``subject`` is a NATS pattern ("tunix.evt.run.>"); empty is all.
        """

        def request(last: pb.Event | None) -> pb.WatchEventsRequest:
            after = after_sequence if last is None else last.sequence
            return pb.WatchEventsRequest(subject=subject, after_sequence=after)

        return followed(Stub, lambda stub: stub.WatchEvents, request, lambda event: event, lambda event: False)

    @many
    @staticmethod
    def list(*, filter: str = "", page_size: int = 0, limit: int | None = None) -> Pages[pb.Event]:
        """Facts that have happened; fields: id, type, subject, resource_id, time, sequence."""
        request = pb.ListEventsRequest(page_size=page_size, filter=filter)
        return paged(Stub, lambda stub: stub.ListEvents, request, lambda page: page.events, limit=limit)
