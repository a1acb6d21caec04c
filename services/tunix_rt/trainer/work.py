"""What the trainer knows of its work: the claimed attempt, how it may end, and what it needs of the registry.

Pure vocabulary, without protobuf or sockets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tunix_rt.artifacts import StoredArtifact
from tunix_rt.contract.hyperparameters import Hyperparameters
from tunix_rt.trainer.job import ArtifactRef, InitialCheckpoint
from tunix_rt.trainer.messages import CheckpointWritten, MetricsMeasured, ProgressMade


@dataclass(frozen=True)
class Lease:
    """Fencing token of an attempt; ``epoch`` is the attempt's number."""

    job_id: str
    attempt_id: str
    epoch: int


@dataclass(frozen=True)
class ClaimedAttempt:
    """An attempt that this worker holds."""

    lease: Lease
    base_model: str
    dataset_id: str
    dataset: ArtifactRef
    hyperparameters: Hyperparameters
    spec_digest: str
    base_model_artifact: ArtifactRef | None = None
    recorded_steps: tuple[int, ...] = ()
    initial_checkpoint: InitialCheckpoint | None = None


@dataclass(frozen=True)
class NotGranted:
    """Somebody else works on it (ask again after so many seconds), or there is nothing left to do (0)."""

    retry_after_seconds: float


@dataclass(frozen=True)
class LogRecord:
    """A log line; ``sequence`` is unique within the attempt, ``time`` in seconds since the epoch."""

    sequence: int
    level: str
    text: str
    time: float


@dataclass(frozen=True)
class CancelAsked:
    """The registry wants the attempt ended; ``reason`` is a name of the contract's Reason."""

    reason: str

    @property
    def keeps_checkpoint(self) -> bool:
        """Whether what has been trained so far is wanted: others may go on from it."""
        return self.reason == "EARLY_STOPPED"


@dataclass(frozen=True)
class Ending:
    """How an attempt ended; ``reason`` is a name of the contract's Reason, empty for SUCCEEDED."""

    state: Literal["SUCCEEDED", "FAILED", "CANCELLED"]
    reason: str = ""
    text: str = ""
    step: int = 0
    model: StoredArtifact | None = None
    lineage: dict[str, str] = field(default_factory=dict)
    retryable: bool = False


class Released(Exception):
    """The attempt stopped because this worker stops; the job goes back to the registry."""


class Registry(Protocol):
    """The registry as the trainer uses it. Every method raises the error tree.

    `Transient` when it is away, `Aborted` on a lost lease.
    """

    async def claim(self, run_id: str) -> ClaimedAttempt | NotGranted: ...
    async def heartbeat(self, lease: Lease, progress: ProgressMade) -> CancelAsked | None: ...
    async def cancellation(self, lease: Lease) -> CancelAsked:
        """Return as soon as the run is to end; that may be never."""
        ...

    async def report_metrics(self, lease: Lease, rows: Sequence[MetricsMeasured]) -> None: ...
    async def report_logs(self, lease: Lease, lines: Sequence[LogRecord]) -> None: ...
    async def record_checkpoint(self, lease: Lease, checkpoint: CheckpointWritten) -> None: ...
    async def complete(self, lease: Lease, ending: Ending) -> None: ...
    async def release(self, lease: Lease, text: str) -> None: ...
