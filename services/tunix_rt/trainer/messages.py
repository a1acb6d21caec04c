"""Messages between the service and its training process: one JSON object per line, in both directions.

Owns the wire form. Both ends come from the same installation, so there are no versions; a line that does not decode
is an error.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from tunix_rt.artifacts import StoredArtifact, StoredFile


@dataclass(frozen=True)
class ProgressMade:
    """``done`` of ``total`` optimizer steps; ``stage`` describes the current activity."""

    stage: str
    done: int
    total: int


# What of a row is measured by clock and machine. All other values of a run are the same however often it is executed,
# interrupted and resumed.
TIMING_KEYS = frozenset({"tokens_per_second", "step_time", "mfu", "peak_memory_bytes"})
EVAL_LOSS = "eval_loss"


@dataclass(frozen=True)
class Resumed:
    """Training resumed from the checkpoint of ``step``."""

    step: int


@dataclass(frozen=True)
class MetricsMeasured:
    """A row of metrics at ``step``, measured at ``time`` (seconds since the epoch)."""

    step: int
    time: float
    values: dict[str, float]


@dataclass(frozen=True)
class Logged:
    """A line for the run's log; ``level`` is debug, info, warning or error."""

    level: str
    text: str
    time: float


@dataclass(frozen=True)
class CheckpointWritten:
    """A committed checkpoint, and the steps whose checkpoints were removed for it."""

    step: int
    uri: str
    digest: str
    size_bytes: int
    removed_steps: tuple[int, ...] = ()


@dataclass(frozen=True)
class Completed:
    """The run is trained and exported."""

    step: int
    model: StoredArtifact
    lineage: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """The attempt failed; ``reason`` is a name of the contract's Reason without its prefix."""

    reason: str
    text: str
    retryable: bool


@dataclass(frozen=True)
class HandedBack:
    """As asked: a checkpoint at ``step`` is committed, and the process ends."""

    step: int


@dataclass(frozen=True)
class Acknowledged:
    """To the child: the registry holds every metric row up to ``step``."""

    step: int


@dataclass(frozen=True)
class HandBack:
    """To the child: checkpoint after the step under way, then end."""


FromChild = ProgressMade | Resumed | MetricsMeasured | Logged | CheckpointWritten | Completed | Failed | HandedBack
ToChild = Acknowledged | HandBack

_KINDS: dict[str, type[FromChild | ToChild]] = {
    kind.__name__: kind
    for kind in (
        ProgressMade,
        Resumed,
        MetricsMeasured,
        Logged,
        CheckpointWritten,
        Completed,
        Failed,
        HandedBack,
        Acknowledged,
        HandBack,
    )
}


def encode(message: FromChild | ToChild) -> bytes:
    """One line, newline included."""
    document = {"kind": type(message).__name__, **dataclasses.asdict(message)}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> FromChild | ToChild:
    """The message on a line; raises ValueError for anything else."""
    document = json.loads(line)
    kind = _KINDS.get(document.pop("kind", "")) if isinstance(document, dict) else None
    if kind is None:
        raise ValueError(f"not a message: {line[:200]!r}")
    try:
        return kind(**_typed(kind, document))
    except (TypeError, KeyError) as error:
        raise ValueError(f"malformed {kind.__name__}: {error}") from error


def _typed(kind: type[FromChild | ToChild], document: dict[str, Any]) -> dict[str, Any]:
    if kind is Completed:
        model = document["model"]
        files = tuple(StoredFile(**entry) for entry in model["files"])
        return {**document, "model": StoredArtifact(model["uri"], model["digest"], model["size_bytes"], files)}
    if kind is CheckpointWritten:
        return {**document, "removed_steps": tuple(document["removed_steps"])}
    return document
