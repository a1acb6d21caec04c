"""Lanes: calls of one lane do not wait for those of another.

``control`` are the calls that keep jobs alive: claims, heartbeats, reports, ends. ``streams`` are those that answer
with a stream, and what they read again, ``calls`` all others, and ``inside`` is what a process does by itself.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Literal

from tunix_rt.rpc.auth import Permission

Lane = Literal["control", "calls", "streams", "inside"]
CONTROL: Final = frozenset[Permission]({"work", "train", "evaluate", "tune", "introspect"})
"""Calls that need one of these permissions have a lane of their own."""

# How long a call may wait before it begins. A worker's waits less than its heartbeat's deadline of five seconds.
QUEUE_SECONDS: Final = 1.0
CONTROL_QUEUE_SECONDS: Final = 4.0
# An open stream stays for long: it is worth more time.
_STREAM_QUEUE_SECONDS: Final = 10.0
_LONGEST: Final[dict[Lane, float]] = {"control": CONTROL_QUEUE_SECONDS, "streams": _STREAM_QUEUE_SECONDS}


@dataclass
class Turn:
    """One call's. ``begin_by`` is when it is refused if it has not begun, in seconds of `time.monotonic`. What has
    begun is brought to its end."""

    lane: Lane
    begin_by: float = float("inf")
    begun: bool = False
    came: float = field(default_factory=time.monotonic)


def new_turn(lane: Lane) -> Turn:
    """The turn of a call that comes now."""
    return Turn(lane, time.monotonic() + _LONGEST.get(lane, QUEUE_SECONDS))


_INSIDE: Final = Turn("inside", begun=True)
_current: ContextVar[Turn] = ContextVar("tunix_rt_turn", default=_INSIDE)


def current_turn() -> Turn:
    """Of the call being served; outside of one it is in the lane ``inside`` and is never refused."""
    return _current.get()


def set_current_turn(turn: Turn) -> None:
    """For the interceptors: the RPC's task keeps it until it ends."""
    _current.set(turn)
