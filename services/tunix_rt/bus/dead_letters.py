"""Messages that nobody could handle: copied to TUNIX_DLQ with the reason, then taken out of their stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from tunix_rt.bus.events import MESSAGE_ID
from tunix_rt.bus.topology import DLQ_SUBJECT, ConsumerSpec
from tunix_rt.observability.logs import get_logger

REASON = "tunix-dlq-reason"
CONSUMER = "tunix-dlq-consumer"
_REASON_CHARACTERS = 500
_log = get_logger(__name__)


async def bury(js: JetStreamContext, consumer: ConsumerSpec, message: Msg, error: Exception) -> None:
    """Publish the message to ``tunix.dlq.<subject>`` with the reason, then end it. Raises what nats raises."""
    sequence = message.metadata.sequence.stream
    await _copy(
        js, consumer, message.subject, message.headers, message.data, sequence, f"{type(error).__name__}: {error}"
    )
    await message.term()
    _log.error("message buried", subject=message.subject, reason=str(error))


@asynccontextmanager
async def stuck_messages_buried(js: JetStreamContext, consumer: ConsumerSpec) -> AsyncIterator[None]:
    """Inside the block, messages whose last delivery ended in a crash are buried too.

    No handler is left to do it then; JetStream only says so in an advisory and keeps the message where it is.
    """

    async def advised(advisory: Msg) -> None:
        sequence = int(json.loads(advisory.data)["stream_seq"])
        try:
            found = await js.get_msg(consumer.stream, sequence)
        except NotFoundError:
            return  # buried already
        reason = f"delivered {consumer.max_deliver} times, and no worker lived to answer"
        await _copy(js, consumer, found.subject or "", found.headers, found.data or b"", sequence, reason)
        await js.delete_msg(consumer.stream, sequence)
        _log.error("stuck message buried", subject=found.subject, reason=reason)

    client = js._nc  # the context has no public way to its connection
    subject = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{consumer.stream}.{consumer.durable}"
    subscription = await client.subscribe(subject, queue=consumer.durable, cb=advised)
    try:
        yield
    finally:
        if client.is_connected:
            await subscription.unsubscribe()


async def _copy(
    js: JetStreamContext,
    consumer: ConsumerSpec,
    subject: str,
    headers: Mapping[str, Any] | None,
    data: bytes,
    sequence: int,
    reason: str,
) -> None:
    kept = {name: str(value) for name, value in (headers or {}).items()}
    kept[MESSAGE_ID] = f"dead-{consumer.stream}-{sequence}-{kept.get(MESSAGE_ID, '')}"
    kept[REASON] = " ".join(reason.split())[:_REASON_CHARACTERS]
    kept[CONSUMER] = consumer.durable
    await js.publish(f"{DLQ_SUBJECT}.{subject}", data, headers=kept, timeout=5.0)
