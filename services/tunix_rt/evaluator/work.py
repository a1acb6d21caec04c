"""An evaluation as the evaluator works on it, and its interfaces to registry and inferencer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tunix_rt.quality.items import EvalItem
from tunix_rt.worker.jobs import Lease

Outcome = Literal["SCORED", "SKIPPED", "ERRORED"]


@dataclass(frozen=True)
class Evaluation:
    """A claimed evaluation. ``recorded`` holds the (item id, sample index) pairs that earlier attempts stored."""

    items: Sequence[EvalItem]
    recorded: frozenset[tuple[str, int]]
    samples_per_item: int
    model_reference: str
    # Empty: whatever the reference holds.
    model_digest: str
    seed: int
    # Opaque to the engine; the inferencer's adapter gave it and takes it back.
    generation: Any

    def missing(self) -> list[tuple[EvalItem, int]]:
        """Pairs to be generated, by sample, then in the order of the evalset."""
        return [
            (item, sample)
            for sample in range(self.samples_per_item)
            for item in self.items
            if (item.id, sample) not in self.recorded
        ]

    @property
    def total(self) -> int:
        return len(self.items) * self.samples_per_item


@dataclass(frozen=True)
class LoadedModel:
    """A model that the inferencer is ready to serve."""

    handle: str
    digest: str


@dataclass(frozen=True)
class Generated:
    """``finish_reason``: "stop" or "length"."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Result:
    """What is stored of one (item, sample)."""

    item_id: str
    sample_index: int
    outcome: Outcome
    prediction: str = ""
    extracted_answer: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Recorder(Protocol):
    """Where results are stored. Raises `Aborted` for a lost lease and `Transient` when it is out of reach."""

    async def record(self, lease: Lease, results: Sequence[Result]) -> None: ...


class Inferencer(Protocol):
    """The inferencer, as the evaluator sees it. A model is loaded as ``generation`` wants its weights. ``generate``
    raises `NotFound` for a forgotten handle."""

    async def load(self, reference: str, digest: str, generation: Any) -> LoadedModel: ...
    async def generate(self, handle: str, prompt: str, generation: Any, seed: int) -> Generated: ...
