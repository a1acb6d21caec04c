"""How often a message may still fail. JetStream counts deliveries; waiting for its turn is a delivery but no failure.

So a message that has to wait is published again as a copy that carries its failures and the time at which it is due
(headers ``tunix-failures`` and ``tunix-not-before``). The copy's ``Nats-Msg-Id`` names the message that it replaces:
a crash between publishing the copy and acknowledging the original leaves no second copy.

The headers are untrusted: a value that is not a number counts as absent, and one out of range is clamped.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.msg import Msg
from nats.js import JetStreamContext

from tunix_rt.bus.events import MESSAGE_ID, CloudEvent, attributes_of
from tunix_rt.bus.topology import ConsumerSpec

FAILURES = "tunix-failures"
NOT_BEFORE = "tunix-not-before"
MAX_WAIT_SECONDS: Final = 3600.0
_MAX_NUMBER_CHARACTERS: Final = 32


@dataclass(frozen=True)
class Budget:
    """``failures`` so far, 0 to ``max_deliver``; ``last_chance``: the next failure is the last.

    ``wait_seconds`` is how long the message still has to wait, at most an hour.
    """

    failures: int
    last_chance: bool
    deliveries_left: int
    wait_seconds: float

    @classmethod
    def of(cls, message: Msg, consumer: ConsumerSpec, now: float) -> Budget:
        """The budget of a delivered message at ``now`` (Unix seconds). Only work queues have copies to wait for."""
        headers = (message.headers or {}) if consumer.is_work_queue else {}
        due = _number(headers.get(NOT_BEFORE))
        deliveries = message.metadata.num_delivered or 1
        deliveries_left = consumer.max_deliver - deliveries
        # The delivery that came too early was no failure.
        earlier = max(0, deliveries - 1 - (1 if due else 0))
        failures = min(int(min(_number(headers.get(FAILURES)), consumer.max_deliver)) + earlier, consumer.max_deliver)
        # Never so long that the last delivery is spent on waiting.
        wait = min(max(0.0, due - now), MAX_WAIT_SECONDS) if deliveries_left > 0 else 0.0
        return cls(failures, failures + 1 >= consumer.max_deliver, deliveries_left, wait)


async def publish_again(
    js: JetStreamContext, message: Msg, event: CloudEvent, *, failures: int, after_seconds: float
) -> None:
    """Store a copy of ``message`` that is due after ``after_seconds``, at most an hour. Raises what nats raises."""
    headers = attributes_of(message.headers)
    headers["ce-id"] = event.id
    headers[MESSAGE_ID] = f"{event.id}~{message.metadata.sequence.stream}"
    headers[FAILURES] = str(failures)
    wait = min(after_seconds, MAX_WAIT_SECONDS)
    headers[NOT_BEFORE] = f"{time.time() + wait:.3f}" if wait > 0 else "0"
    await js.publish(message.subject, message.data, headers=headers, timeout=5.0)


def _number(value: Any) -> float:
    """A finite number of at least 0; 0 for everything else."""
    text = str(value or "")
    if len(text) > _MAX_NUMBER_CHARACTERS:
        return 0.0
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0
