"""What evidence is made from: the platform's messages as documents (`contract.documents`), read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tunix_rt.evidence.documents import Document
from tunix_rt.quality.items import EvalItem


@dataclass(frozen=True)
class SweepFacts:
    """Of the sweep whose trial a run carried out; ``results`` has its configurations, best first, without the sweep."""

    sweep: Document
    trials: Sequence[Document]
    results: Document


@dataclass(frozen=True)
class TrainingFacts:
    """Of the run that made the model. ``metrics`` are points by key, then step; ``sweep`` is None for a plain run."""

    run: Document
    dataset: Document
    attempts: Sequence[Document]
    metrics: Sequence[Document]
    logs: Sequence[Document]
    sweep: SweepFacts | None = None


@dataclass(frozen=True)
class GateFacts:
    """Decisions on the evaluation, oldest first; policies by id; baselines by evaluation id."""

    decisions: Sequence[Document]
    policies: Mapping[str, Document]
    baselines: Mapping[str, Document]


@dataclass(frozen=True)
class Facts:
    """Of one succeeded evaluation. ``samples`` are in the order of the evalset; ``training`` is None for a model that
    no run here made."""

    evaluation: Document
    evalset: Document
    items: Sequence[EvalItem]
    samples: Sequence[Document]
    model: Document
    training: TrainingFacts | None = None
    # Public keys by id, of all that is signed.
    signing_keys: Mapping[str, str] = field(default_factory=dict)
    gate: GateFacts = field(default_factory=lambda: GateFacts((), {}, {}))
