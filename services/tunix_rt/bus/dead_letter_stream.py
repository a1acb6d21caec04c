"""The dead letters that lie in TUNIX_DLQ: read, published once more, deleted. For the registry.

Whoever may publish to ``tunix.dlq.>`` has written them: all that they say is untrusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

from tunix_rt.bus.events import CloudEvent, event_of
from tunix_rt.bus.inventory import delete_stored
from tunix_rt.bus.publish import Publisher
from tunix_rt.bus.topology import DLQ_STREAM, DLQ_SUBJECT, asking

_PREFIX: Final = f"{DLQ_SUBJECT}."
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class StoredLetter:
    """A dead letter. ``subject`` is where the message was published first; ``time`` is when it was given up."""

    sequence: int
    subject: str
    headers: Mapping[str, Any]
    body: bytes
    time: datetime

    @property
    def event(self) -> CloudEvent:
        """The event that it was."""
        return event_of(self.subject, self.headers, self.body, fallback_id=f"dead-{self.sequence}")


class DeadLetterStream:
    """Every method raises `Transient` when JetStream cannot be asked."""

    def __init__(self, js: JetStreamContext, publisher: Publisher) -> None:
        self._js, self._publisher = js, publisher

    @property
    def is_connected(self) -> bool:
        """Whether it makes sense to ask now."""
        return bool(self._js._nc.is_connected)

    async def after(self, sequence: int, limit: int) -> list[StoredLetter]:
        """The first ``limit`` letters after ``sequence``."""
        found: list[StoredLetter] = []
        with asking("for dead letters"):
            while len(found) < limit:
                try:
                    message = await self._js.get_msg(DLQ_STREAM, sequence + 1, subject=f"{_PREFIX}>", next=True)
                except NotFoundError:
                    break
                found.append(_letter(message))
                sequence = found[-1].sequence
        return found

    async def get(self, sequence: int) -> StoredLetter | None:
        """One letter; None: there is none."""
        with asking("for a dead letter"):
            try:
                return _letter(await self._js.get_msg(DLQ_STREAM, sequence))
            except NotFoundError:
                return None

    async def replay(self, letter: StoredLetter) -> None:
        """Publish what the letter holds to its first subject; repeating that within ten minutes stores nothing more.

        Raises as `Publisher.publish` does.
        """
        await self._publisher.publish(replace(letter.event, copy=f"dead-letter-{letter.sequence}"))

    async def remove(self, sequence: int) -> bool:
        """Delete a letter; False: there was none."""
        with asking("to delete a dead letter"):
            return await delete_stored(self._js, DLQ_STREAM, sequence)


def _letter(message: api.RawStreamMsg) -> StoredLetter:
    time = message.time or _EPOCH
    return StoredLetter(
        message.seq or 0,
        (message.subject or "").removeprefix(_PREFIX),
        message.headers or {},
        message.data or b"",
        time if time.tzinfo else time.replace(tzinfo=UTC),
    )
