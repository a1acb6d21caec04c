"""A handler's input and result; handlers do not use NATS."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from tunix_rt.bus.events import CloudEvent
from tunix_rt.errors import FieldViolation, InvalidInput

_MAX_TEXT_CHARACTERS: Final = 256


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
        """The body as an object; raises `InvalidInput` when it is something else.

        Stricter than `json.loads`: NaN, numbers beyond float64 and text that is not Unicode (lone surrogates) are
        refused, since protobuf, databases and logs refuse them later.
        """
        try:
            body = json.loads(self.event.data.decode(), parse_constant=_refused, parse_float=_finite)
            json.dumps(body, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:  # ValueError: also wrong UTF-8, and integers of 4,300 digits
            raise InvalidInput([FieldViolation("data", f"not JSON: {error}")]) from error
        if not isinstance(body, dict):
            raise InvalidInput([FieldViolation("data", "not a JSON object")])
        return body

    def text(self, field: str) -> str:
        """A short, printable string of the body; raises `InvalidInput` when it is missing or something else.

        ``field`` is the name in events.proto; as the proto3 JSON mapping has it, ``run_id`` is also found as ``runId``.
        """
        body = self.json()
        head, *rest = field.split("_")
        value = body.get(field, body.get(head + "".join(part.capitalize() for part in rest)))
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT_CHARACTERS or not value.isprintable():
            reason = f"a string of 1 to {_MAX_TEXT_CHARACTERS} printable characters is required"
            raise InvalidInput([FieldViolation(f"data.{field}", reason)])
        return value


@dataclass(frozen=True)
class Done:
    """Handled: never deliver it again."""


@dataclass(frozen=True)
class Retry:
    """Not now: deliver it again after ``after_seconds``. Does not count as a failure, however often it is answered."""

    after_seconds: float = 0.0


Outcome = Done | Retry


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is beyond the range of float64")
    return number
