"""An adapter's stages: resolved, read, loaded."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

from tunix_rt.inferencer.engine.interface import AdapterFactors
from tunix_rt.inferencer.holders import Holders
from tunix_rt.inferencer.text import Tokenizer
from tunix_rt.inferencer.text_threads import TextThreads


@dataclass(frozen=True)
class ResolvedAdapter:
    """An adapter that was located but not read. ``base`` describes its base model (for messages)."""

    reference: str
    digest: str
    base_digest: str
    base: str
    rank: int


@dataclass(frozen=True)
class ServableAdapter:
    """An adapter that was read: its factors for the engine, and its tokenizer, ``owned`` unless it is the base's."""

    factors: AdapterFactors
    tokenizer: Tokenizer
    eos_ids: frozenset[int]
    threads: TextThreads = field(default_factory=TextThreads)
    owned: bool = True

    def close(self) -> None:
        """Release what reads text."""
        if self.owned:
            self.tokenizer.close()
        self.threads.close()


@dataclass(eq=False)
class LoadedAdapter:
    """An adapter in the engine. ``handle`` is also its name there; ``model`` is the handle of its model."""

    handle: str
    reference: str
    digest: str
    model: str
    index: int
    rank: int
    memory_bytes: int
    load_seconds: float
    servable: ServableAdapter
    last_used: float
    users: int = 0
    holders: Holders = field(default_factory=Holders)
    # Seconds since the epoch.
    loaded_at: int = field(default_factory=lambda: int(time.time()))

    def close(self) -> None:
        """Release what reads text for it."""
        self.servable.close()


def adapter_handle(model: str, digest: str) -> str:
    """An adapter's handle, derived from its content and its model's handle: stable across restarts."""
    return f"adapter-{hashlib.sha256(f'{model} {digest}'.encode()).hexdigest()[:32]}"
