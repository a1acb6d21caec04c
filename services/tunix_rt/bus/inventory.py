"""What the streams hold: every stored command, and the newest fact. The registry compares it with its tables.

Commands are read in batches by JetStream's direct get (ADR-31), without a consumer: a work queue allows no second one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError

from tunix_rt.bus.events import event_of, newest_of
from tunix_rt.bus.topology import CMD_STREAM, EVENT_SUBJECT, EVT_STREAM, ConsumerSpec, asking
from tunix_rt.contract.identifiers import MAX_ID
from tunix_rt.errors import Transient

_BATCH: Final = 1000
_TIMEOUT_SECONDS: Final = 5.0
_NOT_FOUND: Final = "404"
# JSNoMessageFoundErr, JSSequenceNotFoundErrF and JSStreamMsgDeleteFailedF of nats-server (server/errors.json).
_GONE: Final = frozenset({10037, 10043, 10057})
_DONE: Final = frozenset({"204", _NOT_FOUND})


@dataclass(frozen=True)
class StoredCommand:
    """A command in its stream. ``job_id`` is "" where the body names none. ``lost``: JetStream keeps it, but has
    delivered it as often as allowed, and will not again."""

    sequence: int
    subject: str
    job_id: str
    lost: bool = False


class CommandInventory:
    """Reads what the command stream holds, again and again.

    JetStream does not say which messages it has given up on. They are among those that were delivered, are stored
    still, and exceed what the consumer counts as outstanding: all of them when it counts none, and otherwise those for
    which that is so for ``patience_seconds``.
    """

    def __init__(
        self, js: JetStreamContext, *, patience_seconds: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._js, self._patience, self._clock = js, patience_seconds, clock
        # When each sequence was first among too many.
        self._doubted: dict[int, float] = {}

    async def read(self, consumers: Iterable[ConsumerSpec]) -> list[StoredCommand]:
        """Every command that was stored when this began and is stored still, by sequence; ``consumers`` are those of
        the stream. Raises `Transient` when JetStream cannot be asked."""
        with asking("for the commands"):
            infos = [(spec, await _consumer_info(self._js, spec)) for spec in consumers if spec.is_work_queue]
            messages = await _read_all(self._js)
        now, lost, doubted = self._clock(), set[int](), dict[int, float]()
        for spec, info in infos:
            if info is None:
                continue
            delivered = info.delivered.stream_seq if info.delivered else 0
            held = [sequence for sequence, subject, _ in messages if subject == spec.filter_subject]
            held = [sequence for sequence in held if sequence <= delivered]
            outstanding = info.num_ack_pending or 0
            if len(held) > outstanding:
                doubted.update({sequence: self._doubted.get(sequence, now) for sequence in held})
                old = {sequence for sequence in held if now - doubted[sequence] >= self._patience}
                lost.update(old if outstanding else held)
        self._doubted = doubted
        return [StoredCommand(sequence, subject, job, sequence in lost) for sequence, subject, job in messages]


async def remove_commands(js: JetStreamContext, sequences: Sequence[int]) -> None:
    """Delete commands; those that are gone already are passed over. Raises `Transient`."""
    with asking("to delete commands"):
        for sequence in sequences:
            await delete_stored(js, CMD_STREAM, sequence)


async def delete_stored(js: JetStreamContext, stream: str, sequence: int) -> bool:
    """Delete a message of ``stream``; False: there was none. Raises what nats raises."""
    try:
        return bool(await js.delete_msg(stream, sequence))
    except APIError as error:
        if isinstance(error, NotFoundError) or error.err_code in _GONE:
            return False
        raise


async def served_subjects(js: JetStreamContext, consumers: Iterable[ConsumerSpec]) -> frozenset[str]:
    """Subjects of the work queues among ``consumers`` for whose next message a worker waits now. Raises `Transient`."""
    with asking("for the consumers"):
        infos = [(spec, await _consumer_info(js, spec)) for spec in consumers if spec.is_work_queue]
    return frozenset(spec.filter_subject for spec, info in infos if info is not None and info.num_waiting)


async def newest_fact(js: JetStreamContext) -> str | None:
    """Event id of the newest fact, whatever was published again after it; None when the stream is empty. Raises
    `Transient`."""
    with asking("for the newest fact"):
        try:
            found = await js.get_last_msg(EVT_STREAM, f"{EVENT_SUBJECT}.>")
        except NotFoundError:
            return None
    return newest_of(found.headers) or event_of(found.subject or "", found.headers, b"", fallback_id="").id


async def _consumer_info(js: JetStreamContext, spec: ConsumerSpec) -> api.ConsumerInfo | None:
    try:
        info: api.ConsumerInfo = await js.consumer_info(spec.stream, spec.durable)
    except NotFoundError:
        return None
    return info


async def _read_all(js: JetStreamContext) -> list[tuple[int, str, str]]:
    """(sequence, subject, job id) of each message. One that is replaced by a copy meanwhile is met as the copy: copies
    are stored before the original goes, and behind it."""
    client = js._nc  # the context has no public way to its connection
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    found: list[tuple[int, str, str]] = []
    after = 0
    try:
        while True:
            request = {"seq": after + 1, "batch": _BATCH, "next_by_subj": "tunix.cmd.>"}
            await client.publish(f"$JS.API.DIRECT.GET.{CMD_STREAM}", json.dumps(request).encode(), reply=inbox)
            while (status := _end_of_batch(message := await subscription.next_msg(_TIMEOUT_SECONDS))) is None:
                headers = message.headers or {}
                after = int(headers["Nats-Sequence"])
                found.append((after, headers.get("Nats-Subject", ""), job_id_of(message.data)))
            if status == _NOT_FOUND or (message.headers or {}).get("Nats-Num-Pending") == "0":
                return found
    finally:
        await subscription.unsubscribe()


def _end_of_batch(message: Msg) -> str | None:
    """The status of a message that ends a batch; None for a stored one. Raises `Transient` for an error."""
    headers: Mapping[str, Any] = message.headers or {}
    if "Nats-Stream" in headers:
        return None
    status = str(headers.get("Status", ""))
    if status not in _DONE:
        raise Transient(f"JetStream does not list the commands: status {status or 'unknown'}")
    return status


def job_id_of(data: bytes) -> str:
    """The job that the body of a command names; "" where it names none. Never raises."""
    try:
        value = json.loads(data)["jobId"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return value if isinstance(value, str) and len(value) <= MAX_ID and "\x00" not in value else ""
