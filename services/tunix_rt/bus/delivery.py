"""What a handler gets and what it answers. Handlers never see NATS."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tunix_rt.bus.events import CloudEvent
from tunix_rt.errors import FieldViolation, InvalidInput


@dataclass(frozen=True)
class Delivery:
    """One delivery of an event. ``failures`` is how often handling this event has failed before (crashes included)."""

    event: CloudEvent
    failures: int
    last_chance: bool

    @property
    def id(self) -> str:
        """The event's id: the inbox key of idempotent handlers."""
        return self.event.id

    @property
    def subject(self) -> str:
        return self.event.subject

    def json(self) -> dict[str, Any]:
        """The body as an object; raises `InvalidInput` when it is something else."""
        try:
            body = json.loads(self.event.data)
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InvalidInput([FieldViolation("data", f"not JSON: {error}")]) from error
        if not isinstance(body, dict):
            raise InvalidInput([FieldViolation("data", "not a JSON object")])
        return body

    def text(self, field: str) -> str:
        """A non-empty string of the body; raises `InvalidInput` when it is missing.

        ``field`` is the name in events.proto; as the proto3 JSON mapping has it, ``run_id`` is also found as ``runId``.
        """
        body = self.json()
        head, *rest = field.split("_")
        value = body.get(field, body.get(head + "".join(part.capitalize() for part in rest)))
        if not isinstance(value, str) or not value:
            raise InvalidInput([FieldViolation(f"data.{field}", "a non-empty string is required")])
        return value


@dataclass(frozen=True)
class Done:
    """Handled: never deliver it again."""


@dataclass(frozen=True)
class Retry:
    """Not now: deliver it again after so many seconds. Does not count as a failure, however often it is answered."""

    after_seconds: float = 0.0


Outcome = Done | Retry
