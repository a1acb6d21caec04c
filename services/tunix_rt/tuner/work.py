"""What an attempt at a sweep is made of, and what it asks of the registry. Knows no protobuf and no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from tunix_rt.search_space.space import Space
from tunix_rt.tuner.trials import Lease


@dataclass(frozen=True)
class Sweep:
    """A claimed sweep."""

    id: str
    lease: Lease
    space: Space
    seed: int
    mode: Literal["max", "min"]
    max_concurrent: int


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
class Cancelled:
    """The registry asked for cancellation."""

    reason: str


class Registry(Protocol):
    """The registry, as the tuner sees it. Raises `Aborted` for a lost lease and `Transient` when out of reach."""

    async def claim(self, sweep_id: str) -> Sweep | NotGranted: ...
    async def ended_trials(self, sweep_id: str) -> int: ...
    async def heartbeat(self, lease: Lease, done: int, total: int) -> Cancelled | None: ...
    async def complete(self, lease: Lease, ending: Ending) -> None: ...
    async def release(self, lease: Lease, message: str) -> None: ...
