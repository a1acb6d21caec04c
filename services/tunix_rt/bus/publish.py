"""Publishing: once per event id, and only done when JetStream has acknowledged it."""

from __future__ import annotations

from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from tunix_rt.bus.events import CloudEvent, headers_of
from tunix_rt.bus.keeper import Topology
from tunix_rt.bus.topology import UNREACHABLE
from tunix_rt.errors import Exhausted, FailedPrecondition, Transient
from tunix_rt.observability import metrics
from tunix_rt.observability.propagation import span

# NATS counts headers towards its maximum payload, and disconnects a client that exceeds it.
HEADER_BYTES: Final = 8192
# JSStreamStoreFailedF of nats-server (server/errors.json): the stream has its maximum of bytes, or of messages of a
# subject.
_FULL: Final = frozenset({10077})
_FULL_RETRY_SECONDS: Final = 5.0


class Publisher:
    """Publishes events through JetStream and waits for the acknowledgement. ``timeout_seconds`` is per attempt.

    For the registry, the only one that may publish any event: ``topology`` is what it keeps in JetStream.
    """

    def __init__(self, js: JetStreamContext, *, topology: Topology | None = None, timeout_seconds: float = 5.0) -> None:
        self._js = js
        self._topology = topology or Topology(js)
        self._timeout = timeout_seconds

    async def publish(self, event: CloudEvent) -> None:
        """Store ``event`` in its stream. Repeating it within ten minutes stores nothing more.

        Streams that JetStream has lost are recreated. Raises `Transient` when JetStream did not confirm: the event may
        or may not be stored, and publishing it again is safe. Raises `Exhausted` when the stream is full, or has too
        many commands of this subject, and `FailedPrecondition` for an event that is too large for NATS.
        """
        room = self._js._nc.max_payload - HEADER_BYTES
        if len(event.data) > room:
            raise FailedPrecondition(
                f"{event.subject}: {event.id} has {len(event.data)} bytes, NATS accepts at most {room}"
            )
        with span(f"publish {event.type}", kind="producer", traceparent=event.traceparent):
            try:
                await self._topology.prepare(event.subject)
                try:
                    await self._publish(event)
                except NoStreamResponseError:
                    await self._topology.ensure()
                    await self._publish(event)
            except APIError as error:
                if error.err_code in _FULL:
                    raise Exhausted(f"{event.subject}: {error.description}", _FULL_RETRY_SECONDS) from error
                raise _unconfirmed(event, error) from error
            except UNREACHABLE as error:
                raise _unconfirmed(event, error) from error
        metrics.PUBLISHED.labels(event.subject.split(".")[1]).inc()

    async def _publish(self, event: CloudEvent) -> None:
        await self._js.publish(event.subject, event.data, timeout=self._timeout, headers=headers_of(event))


def _unconfirmed(event: CloudEvent, error: BaseException) -> Transient:
    return Transient(f"{event.subject}: JetStream did not confirm {event.id}: {type(error).__name__} {error}")
