"""What an attempt at a sweep is made of, and what it asks of the registry. Knows no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from tunix_rt.tuner.trials import Lease
from tunix_rt.v1 import sweeps_pb2


@dataclass(frozen=True)
class Sweep:
    """A claimed sweep."""

    id: str
    lease: Lease
    # The stored one, defaults filled in.
    spec: sweeps_pb2.SweepSpec


@dataclass(frozen=True)
class NotGranted:
    """Somebody else holds the lease: ask again after so many seconds; 0: there is nothing left to do."""

    retry_after_seconds: float


@dataclass(frozen=True)
class Ending:
    """How the attempt ended. ``reason`` is the name of a Reason without its prefix."""

    state: Literal["SUCCEEDED", "FAILED", "CANCELLED"]
    reason: str = ""
    message: str = ""
    retryable: bool = False


@dataclass(frozen=True)
class Progress:
    """Trials that have ended, and that the sweep is to have."""

    done: int
    total: int


@dataclass(frozen=True)
class Wishes:
    """What the registry wants of a running attempt. ``cancel`` is the reason; ``num_samples`` grows."""

    num_samples: int
    cancel: str | None = None
    pause: bool = False


class Registry(Protocol):
    """The registry, as the tuner sees it. Raises `Aborted` for a lost lease and `Transient` when out of reach."""

    async def claim(self, sweep_id: str) -> Sweep | NotGranted: ...
    async def progress(self, sweep_id: str) -> Progress: ...
    async def heartbeat(self, lease: Lease, progress: Progress) -> Wishes: ...
    async def complete(self, lease: Lease, ending: Ending) -> None: ...
    async def release(self, lease: Lease, message: str) -> None: ...
