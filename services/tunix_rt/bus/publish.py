"""Publishing: once per event id, and only done when JetStream has acknowledged it."""

from __future__ import annotations

from typing import Final

import nats.errors
from nats.js import JetStreamContext
from nats.js.errors import NoStreamResponseError

from tunix_rt.bus.events import CloudEvent, headers_of
from tunix_rt.bus.topology import ensure_topology
from tunix_rt.errors import FailedPrecondition, Transient
from tunix_rt.observability import metrics
from tunix_rt.observability.propagation import span

# NATS counts headers towards its maximum payload, and disconnects a client that exceeds it.
HEADER_BYTES: Final = 8192


class Publisher:
    """Publishes events through JetStream and waits for the acknowledgement. ``timeout_seconds`` is per attempt."""

    def __init__(self, js: JetStreamContext, *, timeout_seconds: float = 5.0) -> None:
        self._js = js
        self._timeout = timeout_seconds

    async def publish(self, event: CloudEvent) -> None:
        """Store ``event`` in its stream. Repeating it within ten minutes stores nothing more.

        Streams that JetStream has lost are recreated. Raises `Transient` when JetStream did not confirm: the event may
        or may not be stored, and publishing it again is safe. Raises `FailedPrecondition` for an event that NATS never
        takes, since it is too large.
        """
        room = self._js._nc.max_payload - HEADER_BYTES
        if len(event.data) > room:
            raise FailedPrecondition(
                f"{event.subject}: {event.id} has {len(event.data)} bytes, NATS accepts at most {room}"
            )
        with span(f"publish {event.type}", kind="producer", traceparent=event.traceparent):
            try:
                await self._publish(event)
            except NoStreamResponseError:
                await self._restore_then_publish(event)
            except (nats.errors.Error, OSError, TimeoutError) as error:
                reason = f"{type(error).__name__} {error}"
                raise Transient(f"{event.subject}: JetStream did not confirm {event.id}: {reason}") from error
        metrics.PUBLISHED.labels(event.subject.split(".")[1]).inc()

    async def _restore_then_publish(self, event: CloudEvent) -> None:
        try:
            await ensure_topology(self._js, consumers=())
            await self._publish(event)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise Transient(f"{event.subject}: no stream accepts {event.id}: {type(error).__name__} {error}") from error

    async def _publish(self, event: CloudEvent) -> None:
        await self._js.publish(event.subject, event.data, timeout=self._timeout, headers=headers_of(event))
