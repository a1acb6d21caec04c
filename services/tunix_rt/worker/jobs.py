"""The vocabulary of the worker protocol: leases, progress, endings, and what a worker asks of the registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from google.protobuf.message import Message


@dataclass(frozen=True)
class Lease:
    """Credential of one attempt; ``epoch`` is the attempt's number. The secret stays in this process and its children:
    it is in no log and no file."""

    job_id: str
    attempt_id: str
    epoch: int
    secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class Granted:
    """A claim that was granted. ``payload`` is the kind's message in `ClaimResponse.payload`."""

    lease: Lease
    payload: Any


@dataclass(frozen=True)
class NotGranted:
    """Another worker holds the lease: claim again after ``retry_after_seconds``; 0 means that nothing is left to do."""

    retry_after_seconds: float


@dataclass(frozen=True)
class Progress:
    """How far an attempt has come, as the job shows it."""

    done: int
    total: int
    unit: str
    stage: str = ""


@dataclass(frozen=True)
class HeartbeatAnswer:
    """What the registry answers to a heartbeat.

    ``cancel_reason`` is the name of a Reason without its prefix, None while cancellation is not requested.
    ``directives`` is the kind's message in `HeartbeatResponse.directives`, None for kinds that have none.
    """

    cancel_reason: str | None = None
    directives: Any = None


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. ``reason`` is the name of a Reason without its prefix, empty for SUCCEEDED.

    ``result`` is the kind's message in `CompleteRequest.result` and comes with SUCCEEDED. ``retryable``: another
    attempt may succeed, where this one FAILED or the registry refuses its result.
    """

    state: Literal["SUCCEEDED", "FAILED", "CANCELLED"]
    reason: str = ""
    message: str = ""
    retryable: bool = False
    result: Message | None = None


class Released(Exception):
    """The attempt stops without an ending, and the job goes back to the registry; the message says why."""


class Jobs(Protocol):
    """JobService for one worker. Raises `Aborted` on a lost lease, `Transient` if the registry is unavailable."""

    async def claim(self, job_id: str) -> Granted | NotGranted: ...
    async def heartbeat(self, lease: Lease, progress: Progress | None, resumed_step: int) -> HeartbeatAnswer: ...
    async def complete(self, lease: Lease, ending: Ending) -> None: ...
    async def release(self, lease: Lease, message: str) -> None: ...
