"""An adapter on its way from a reference to requests that choose it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

from tunix_rt.inferencer.engine.interface import AdapterFactors
from tunix_rt.inferencer.text import Tokenizer


@dataclass(frozen=True)
class ResolvedAdapter:
    """An adapter that has been found and not been read. ``base`` says in words on what it was trained."""

    reference: str
    digest: str
    base_digest: str
    base: str
    rank: int


@dataclass(frozen=True)
class ServableAdapter:
    """What an adapter brings along: factors for the engine, and its own way from text to tokens and back."""

    factors: AdapterFactors
    tokenizer: Tokenizer
    eos_ids: frozenset[int]


@dataclass(eq=False)
class LoadedAdapter:
    """An adapter that is READY. ``handle`` is also its name in the engine; ``model`` is the handle of its model."""

    handle: str
    reference: str
    digest: str
    model: str
    place: int
    rank: int
    memory_bytes: int
    load_seconds: float
    tokenizer: Tokenizer
    eos_ids: frozenset[int]
    last_used: float
    users: int = 0
    # Seconds since the epoch.
    loaded_at: int = field(default_factory=lambda: int(time.time()))


def adapter_handle(model: str, digest: str) -> str:
    """An adapter's handle: the same after every restart, because it is made of its content and its model's handle."""
    return f"adapter-{hashlib.sha256(f'{model} {digest}'.encode()).hexdigest()[:32]}"
