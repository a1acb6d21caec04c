"""Messages that cannot be handled: copied to TUNIX_DLQ with the reason, then removed from their stream.

A copy keeps the CloudEvents attributes and the body, and no header that controls delivery. A consumer of dead letters
makes no dead letters: what it cannot handle stays in TUNIX_DLQ as the one entry that it is.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from tunix_rt.bus.events import MESSAGE_ID, attributes_of, event_of
from tunix_rt.bus.publish import HEADER_BYTES
from tunix_rt.bus.topology import CMD_STREAM, DLQ_SUBJECT, ConsumerSpec
from tunix_rt.observability.logs import get_logger

REASON: Final = "tunix-dlq-reason"
CONSUMER: Final = "tunix-dlq-consumer"
TRUNCATED: Final = "tunix-dlq-truncated"
_REASON_CHARACTERS: Final = 500
_log = get_logger(__name__)


async def dead_letter(js: JetStreamContext, consumer: ConsumerSpec, message: Msg, error: BaseException) -> None:
    """Publish the message to ``tunix.dlq.<subject>`` with the reason, then end it. Raises what nats raises."""
    reason = _one_line(f"{type(error).__name__}: {error}")
    if consumer.reads_dead_letters:
        await message.term()
        _log.error("dead letter cannot be handled", subject=message.subject, reason=reason)
        return
    sequence = message.metadata.sequence.stream
    await _copy(js, consumer.durable, message.subject, message.headers, message.data, sequence, reason)
    await message.term()
    _log.error("message dead-lettered", subject=message.subject, reason=reason)


@asynccontextmanager
async def dead_lettering_stuck_commands(js: JetStreamContext) -> AsyncIterator[None]:
    """Inside the block, commands whose last delivery ended in a crash of the worker are dead-lettered too.

    No handler is left to do it then; JetStream only says so in an advisory and keeps the message where it is. The
    registry does this: workers may neither read nor delete messages of the stream.
    """

    async def advised(advisory: Msg) -> None:
        sequence = _stuck_sequence(advisory.data)
        if sequence is None:
            _log.warning("ignored an advisory without stream_seq", subject=advisory.subject)
            return
        try:
            found = await js.get_msg(CMD_STREAM, sequence)
        except NotFoundError:
            return  # dead-lettered already
        durable = advisory.subject.rpartition(".")[2]
        reason = "delivered as often as allowed without an answer from a worker"
        await _copy(js, durable, found.subject or "", found.headers, found.data or b"", sequence, reason)
        await js.delete_msg(CMD_STREAM, sequence)
        _log.error("stuck message dead-lettered", subject=found.subject, reason=reason)

    client = js._nc  # the context has no public way to its connection
    subject = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{CMD_STREAM}.>"
    subscription = await client.subscribe(subject, queue="registry", cb=advised)
    try:
        yield
    finally:
        if client.is_connected:
            await subscription.unsubscribe()


def _stuck_sequence(advisory: bytes) -> int | None:
    try:
        sequence = json.loads(advisory)["stream_seq"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return sequence if type(sequence) is int and sequence > 0 else None


async def _copy(
    js: JetStreamContext,
    durable: str,
    subject: str,
    headers: Mapping[str, Any] | None,
    data: bytes,
    sequence: int,
    reason: str,
) -> None:
    identity = event_of(subject, headers, data, fallback_id="").id
    kept = attributes_of(headers)
    kept[MESSAGE_ID] = f"dead-{CMD_STREAM}-{sequence}-{identity}"
    kept[REASON] = reason
    kept[CONSUMER] = durable
    room = js._nc.max_payload - HEADER_BYTES
    if len(data) > room:
        kept[TRUNCATED] = str(len(data))
    await js.publish(f"{DLQ_SUBJECT}.{subject}", data[:room], headers=kept, timeout=5.0)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split())[:_REASON_CHARACTERS])
