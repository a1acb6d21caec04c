"""How often a message may still fail. JetStream counts deliveries; waiting for one's turn is a delivery but no failure.

So a message that has to wait is published again as a fresh copy that carries the failures so far and the time it is due
(headers ``tunix-failures`` and ``tunix-not-before``). The copy's ``Nats-Msg-Id`` names the message that it replaces:
a crash between publishing the copy and acknowledging the original leaves no second copy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from nats.aio.msg import Msg
from nats.js import JetStreamContext

from tunix_rt.bus.events import MESSAGE_ID
from tunix_rt.bus.topology import ConsumerSpec

FAILURES = "tunix-failures"
NOT_BEFORE = "tunix-not-before"


@dataclass(frozen=True)
class Budget:
    """``failures`` so far; ``last_chance``: the next one is the last; ``due``: Unix seconds, 0 is at once."""

    failures: int
    last_chance: bool
    deliveries_left: int
    due: float

    @classmethod
    def of(cls, message: Msg, consumer: ConsumerSpec) -> Budget:
        """The budget of a delivered message; headers that are not numbers count as absent."""
        headers = message.headers or {}
        due = _number(headers.get(NOT_BEFORE))
        deliveries = message.metadata.num_delivered or 1
        # The delivery that came too early was no failure.
        earlier = max(0, deliveries - 1 - (1 if due else 0))
        failures = int(_number(headers.get(FAILURES))) + earlier
        return cls(failures, failures + 1 >= consumer.max_deliver, consumer.max_deliver - deliveries, due)

    def seconds_until_due(self, now: float) -> float:
        """How long the message has to wait; never so long that its last delivery is spent on waiting."""
        return max(0.0, self.due - now) if self.deliveries_left > 0 else 0.0


async def publish_again(js: JetStreamContext, message: Msg, *, failures: int, after_seconds: float) -> None:
    """Store a copy of ``message`` that is due after so many seconds. Raises what nats raises."""
    headers = dict(message.headers or {})
    sequence = message.metadata.sequence
    headers.setdefault("ce-id", headers.get(MESSAGE_ID) or f"{message.metadata.stream}-{sequence.stream}")
    headers[MESSAGE_ID] = f"{headers['ce-id']}~{sequence.stream}"
    headers[FAILURES] = str(failures)
    headers[NOT_BEFORE] = f"{time.time() + after_seconds:.3f}" if after_seconds > 0 else "0"
    await js.publish(message.subject, message.data, headers=headers, timeout=5.0)


def _number(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
