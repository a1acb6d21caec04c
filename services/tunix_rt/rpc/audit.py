"""What an event of the audit log says about a call; and that calls alike are one event a minute."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunix_rt.errors import FailedPrecondition, PermissionDenied, TunixError, Unauthenticated
from tunix_rt.rpc.auth import current_principal
from tunix_rt.rpc.call import Call
from tunix_rt.rpc.projects import current_project

SAMPLE_SECONDS: Final = 60.0
MAX_TEXT: Final = 500
_MAX_KEYS: Final = 10_000
_OUTCOMES: Final[Mapping[type[TunixError], str]] = {
    Unauthenticated: "UNAUTHENTICATED",
    PermissionDenied: "PERMISSION_DENIED",
    FailedPrecondition: "FAILED_PRECONDITION",
}
# Fields of requests and answers that say what a call is about.
_IDS: Final = (
    *("id", "name", "job_id", "run_id", "sweep_id", "evaluation_id", "model_name", "alias", "principal", "key"),
    *("reference", "handle"),
)


@dataclass
class _Counter:
    """Calls alike since the last event that was written of them."""

    written: float
    count: int = 0


class Sampler:
    """Lets the first of calls alike through, and then one a minute that stands for the others. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counters: OrderedDict[tuple[str, ...], _Counter] = OrderedDict()

    def weight(self, key: tuple[str, ...]) -> int:
        """How many calls the event of this one stands for; 0: none is written now."""
        now = self._clock()
        with self._lock:
            counter = self._counters.get(key)
            if counter is not None and now - counter.written < SAMPLE_SECONDS:
                counter.count += 1
                return 0
            self._counters[key] = _Counter(now)
            self._counters.move_to_end(key)
            while len(self._counters) > _MAX_KEYS:
                self._counters.popitem(last=False)
            return 1 + (counter.count if counter else 0)

    def weight_of_refusal(self, call: Call, outcome: str) -> int:
        """`weight` of a refused call: refusals of a caller, method and outcome are alike."""
        principal = current_principal()
        who = principal.token_id or principal.name if outcome != "UNAUTHENTICATED" else call.peer_host
        return self.weight((who, call.method, outcome))


def outcome_of(error: TunixError) -> str:
    """The status that refused a call, as the audit log names it; "" for an error that is no refusal."""
    return next((name for kind, name in _OUTCOMES.items() if isinstance(error, kind)), "")


def described(call: Call, *, resource: str, count: int, outcome: str = "OK", message: str = "") -> dict[str, Any]:
    """The fields of an event of the call being served, except its time and its place."""
    principal = current_principal()
    known = outcome != "UNAUTHENTICATED"
    return {
        "principal": principal.name if known else "",
        "token_id": principal.token_id if known else "",
        "peer": text(call.origin),
        "method": text(call.method.lstrip("/")),
        "resource": resource,
        "request_id": text(str(getattr(call.request, "request_id", ""))),
        "outcome": outcome,
        "message": text(message),
        "count": count,
        "project": current_project(),
    }


def resource_of(request: object, result: object = None) -> str:
    """What a call is about: ids and names of the request, of its lease and of its first message, and the answer's."""
    found: list[str] = []
    for message in (request, *_parts(request), result, *_parts(result)):
        for name in _IDS:
            value = getattr(message, name, None)
            if isinstance(value, str) and value and value not in found:
                found.append(value)
    return text(" ".join(found[:8]))


def _parts(message: Any) -> list[Any]:
    """The messages that an answer or request wraps: a lease, a principal, a token."""
    descriptor = getattr(message, "DESCRIPTOR", None)
    if descriptor is None:
        return []
    names = ("lease", "principal", "token", "dataset", "evalset")
    fields = descriptor.fields_by_name
    return [
        getattr(message, name)
        for name in names
        if name in fields and fields[name].message_type is not None and message.HasField(name)
    ]


def text(given: str) -> str:
    """``given`` as an event keeps it: bounded, and such that every database stores it."""
    return given.replace("\0", "\ufffd")[:MAX_TEXT]
